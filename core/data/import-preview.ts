/** What an import would do, before it does anything: for a person who looks at it first. */
import { basename } from 'node:path';
import sharp from 'sharp';
import { judgeGrant, judgeWithdrawal } from '../consent/apply-record.ts';
import { siteTimeZone } from '../consent/site-zone.ts';
import { type ErrorReport, toAppError } from '../shared/errors.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { decodeImage } from './decode.ts';
import { type ImageFolder, openImageFolder } from './image-files.ts';
import { type ImportTable, type LoadTableOptions, loadTable, type TableWarning } from './import-table.ts';
import type { LookAlikeQuestion } from './look-alike-answers.ts';
import type { ColumnChoice, Field } from './tables/columns.ts';
import type { DateFormat } from './tables/dates.ts';
import { problemsCsv, type TableProblem } from './tables/problems.ts';
import type { ConsentRow, LabelConsent, LabelRow } from './tables/rows.ts';
import type { TableFormat } from './tables/table.ts';
import { requiredFields, type SeenWord, type TableKind } from './tables/understand-options.ts';

export interface PreviewRow {
  line: number;
  subject: string;
  file: string | null;
  label: string | null;
  split: LabelRow['split'];
  consent: LabelConsent | null;
}

export interface ImportPreview {
  kind: TableKind;
  /** Name of the file. */
  name: string;
  format: TableFormat;
  /** What was understood of the file that a person might not expect. */
  notes: string[];
  header: string[];
  columns: ColumnChoice[];
  /** Columns that could be meant, where there are several. */
  ambiguous: Partial<Record<Field, string[]>>;
  unused: string[];
  required: readonly Field[];
  missing: Field[];
  words: SeenWord[];
  dates: DateFormat;
  /** Rows below the column names, and those without a problem. */
  rowCount: number;
  goodRows: number;
  /** The first ones, as they are understood. */
  rows: PreviewRow[];
  /** Of the rows without a problem. `open`: the import decides which are held out. */
  byLabel: Record<string, { train: number; test: number; open: number }>;
  subjects: { new: number; known: number; unknown: string[] };
  consents: ConsentForecast;
  problems: TableProblem[];
  problemCount: number;
  /** The problems as a table of their own; null when there are none. */
  problemsCsv: string | null;
  /** Subjects of this site whose withdrawal is clear and new: they count even while the rest is blocked. */
  clearWithdrawals: number;
  /** Files that are not there, or cannot be read; the import goes on without them. */
  missingFiles: number;
  questions: LookAlikeQuestion[];
  warnings: TableWarning[];
  contradictions: { subject: string; lines: number[] }[];
  thumbnails: Thumbnail[];
  /** Why the import would not start; null when it would. */
  blocked: ErrorReport | null;
}

/** Subjects by what would become of their consent. */
export interface ConsentForecast {
  granted: number;
  withdrawn: number;
  reconsented: number;
  stillWithdrawn: number;
  known: number;
  none: number;
}

export interface Thumbnail {
  line: number;
  file: string;
  /** JPEG as data URI, at most {@link thumbnailSide} pixels wide and high; null when the image cannot be read. */
  picture: string | null;
  reason: string | null;
}

const shownRows = 20;
const shownPictures = 8;
const thumbnailSide = 96;
/** So many files are looked for; a missing folder shows long before. */
const checkedFiles = 20_000;

export interface PreviewOptions extends LoadTableOptions {
  /** Null for a list of consents. */
  imagesFolder: string | null;
}

/**
 * Reads the table, the names of the files and the first images. Writes nothing.
 * @throws AppError CSV_MISSING; CSV_MALFORMED when the table cannot be read at all; CONFIG_INVALID
 */
export async function previewImport(options: PreviewOptions): Promise<ImportPreview> {
  const loaded = await loadTable(options);
  const { problems } = loaded.understanding;
  const blocked = loaded.blocked?.toReport() ?? null;
  const pictures =
    options.imagesFolder === null || loaded.understanding.images.length === 0
      ? { missingFiles: 0, thumbnails: [], failure: null }
      : await lookAtImages(options.imagesFolder, loaded);
  return {
    ...describeTable(loaded),
    ...forecast(options.store, loaded),
    problems: problems.list(),
    problemCount: problems.count,
    problemsCsv: problems.count === 0 ? null : problemsCsv(problems.list(), problems.count),
    clearWithdrawals: countWithdrawals(options.store, loaded),
    missingFiles: pictures.missingFiles,
    thumbnails: pictures.thumbnails,
    blocked: blocked ?? pictures.failure,
  };
}

function countWithdrawals(
  store: ReadOnlyStore | Store,
  { understanding, withdrawalsAreClear }: ImportTable,
): number {
  if (!withdrawalsAreClear) return 0;
  const [zone, at] = [siteTimeZone(store), store.clock.latest()];
  const isNew = (subject: string, purpose: string) => {
    const stored = store.subjects.byPseudonym(subject);
    if (stored === null) return false;
    const events = store.consentEvents.ofSubject(stored.id);
    return judgeWithdrawal({ purpose }, { events, zone, at }) === 'withdrawn';
  };
  const subjects = understanding.withdrawals.filter(({ subject, purpose }) => isNew(subject, purpose));
  return new Set(subjects.map(({ subject }) => subject)).size;
}

function describeTable({ table, kind, understanding, questions, warnings }: ImportTable) {
  const { mapping, missing, words, dates, images, consents, contradictions, notes } = understanding;
  const good: readonly (LabelRow | ConsentRow)[] = kind === 'images' ? images : consents;
  return {
    kind,
    name: table.name,
    format: table.format,
    notes,
    header: table.header,
    columns: mapping.choices,
    ambiguous: mapping.ambiguous,
    unused: mapping.unused,
    required: requiredFields[kind],
    missing,
    words,
    dates,
    rowCount: table.rows.length,
    goodRows: good.length,
    rows: good.slice(0, shownRows).map(toPreviewRow),
    byLabel: countLabels(images),
    questions: questions.slice(0, 200),
    warnings,
    contradictions: contradictions.slice(0, 200),
  };
}

const toPreviewRow = (row: LabelRow | ConsentRow): PreviewRow => ({
  line: row.line,
  subject: row.subject,
  file: 'file' in row ? row.file : null,
  label: 'label' in row ? row.label : null,
  split: 'split' in row ? row.split : null,
  consent: row.consent,
});

function countLabels(images: readonly LabelRow[]): ImportPreview['byLabel'] {
  const counts = new Map<string, { train: number; test: number; open: number }>();
  for (const { label, split } of images) {
    const count = counts.get(label) ?? { train: 0, test: 0, open: 0 };
    count[split ?? 'open'] += 1;
    counts.set(label, count);
  }
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function forecast(
  store: ReadOnlyStore | Store,
  { kind, understanding }: ImportTable,
): Pick<ImportPreview, 'subjects' | 'consents'> {
  const zone = siteTimeZone(store);
  const at = store.clock.latest();
  const known = new Map(
    understanding.subjects.map((subject) => [subject, store.subjects.byPseudonym(subject)] as const),
  );
  const strangers = understanding.subjects.filter((subject) => known.get(subject) === null);
  const consents = { granted: 0, withdrawn: 0, reconsented: 0, stillWithdrawn: 0, known: 0, none: 0 };
  for (const { subject, consent } of understanding.consents) {
    const stored = known.get(subject) ?? null;
    if (stored === null && kind === 'consents') continue;
    if (consent.kind !== 'granted') {
      consents[consent.kind] += 1;
      continue;
    }
    const events = stored === null ? [] : store.consentEvents.ofSubject(stored.id);
    const outcome = judgeGrant(consent, { events, zone, at });
    consents[outcomeNames[outcome]] += 1;
  }
  return {
    subjects: {
      new: kind === 'images' ? strangers.length : 0,
      known: understanding.subjects.length - strangers.length,
      unknown: kind === 'images' ? [] : strangers.slice(0, 200),
    },
    consents,
  };
}

const outcomeNames = {
  recorded: 'granted',
  known: 'known',
  reconsented: 'reconsented',
  'still-withdrawn': 'stillWithdrawn',
} as const;

async function lookAtImages(
  imagesFolder: string,
  { understanding }: ImportTable,
): Promise<{ missingFiles: number; thumbnails: Thumbnail[]; failure: ErrorReport | null }> {
  const { images, problems, mapping } = understanding;
  const column = mapping.choices.find(({ field }) => field === 'file')?.column ?? 'file';
  let folder: ImageFolder;
  try {
    folder = await openImageFolder(imagesFolder, images);
  } catch (error) {
    return { missingFiles: 0, thumbnails: [], failure: toAppError(error).toReport() };
  }
  let missingFiles = 0;
  for (const row of images.slice(0, checkedFiles)) {
    const problem = await folder.problemOf(row.file);
    if (problem === null) continue;
    missingFiles += 1;
    problems.add({
      line: row.line,
      column,
      value: row.file,
      message: problem.message,
      blocks: false,
      code: problem.code,
    });
  }
  const thumbnails: Thumbnail[] = [];
  for (const row of images.slice(0, shownPictures)) thumbnails.push(await thumbnailOf(folder, row));
  return { missingFiles, thumbnails, failure: null };
}

async function thumbnailOf(folder: ImageFolder, { file, line }: LabelRow): Promise<Thumbnail> {
  try {
    const image = await decodeImage(await folder.read(file), basename(file));
    const { width, height } = image;
    const jpeg = await sharp(image.data, { raw: { width, height, channels: 3 } })
      .resize(thumbnailSide, thumbnailSide, { fit: 'inside', withoutEnlargement: true })
      .jpeg({ quality: 80 })
      .toBuffer();
    return {
      line,
      file,
      picture: `data:image/jpeg;base64,${Buffer.from(jpeg).toString('base64')}`,
      reason: null,
    };
  } catch (error) {
    return { line, file, picture: null, reason: toAppError(error).message };
  }
}
