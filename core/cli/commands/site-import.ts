/** `anneal site import`: a folder of images with its table, or a preview of it. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { ImportPreview, ImportReport } from '../../api/contract.ts';
import { AppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import { writeFileAtomically } from '../../store/atomic-file.ts';
import { formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { addTableOptions, type TableOptions, tableRequestOf } from '../table-options.ts';
import { withAgent } from '../with-agent.ts';

interface ImportOptions extends TableOptions {
  images: string;
  labels: string;
  alreadyCropped: boolean;
  preview: boolean;
  errors?: string;
  data?: string;
  json: boolean;
}

const duplicateKinds = {
  'two-subjects': 'one person under two pseudonyms?',
  'both-splits': 'trained and held out',
  'same-split': 'counted twice',
} as const satisfies Record<ImportReport['duplicates'][number]['kind'], string>;

export function addSiteImport(site: Command): void {
  const command = site
    .command('import')
    .description('import a folder of images with a table of labels and consents')
    .requiredOption(
      '--images <folder>',
      'folder of images: JPEG, PNG, WebP, TIFF, AVIF, HEIC, BMP, PGM, PPM, DICOM photographs',
    )
    .requiredOption(
      '--labels <file>',
      'CSV or .xlsx: file, subject, label and optionally split, consent, consent_document, consent_from, consent_expires',
    )
    .option('--already-cropped', 'the images are aligned face crops; skip face detection', false)
    .option('--preview', 'only show what the import would do; nothing is recorded', false)
    .option('--errors <file>', 'with --preview: write all problems to this CSV file')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false);
  addTableOptions(command).action((options: ImportOptions) =>
    options.preview ? preview(options) : importImages(options),
  );
}

/** The agent may run in another folder. */
const filesOf = (options: ImportOptions) => ({
  imagesFolder: resolve(options.images),
  labelsFile: resolve(options.labels),
  table: tableRequestOf(options),
});

async function preview(options: ImportOptions): Promise<void> {
  const found = await withAgent(options.data, (client) => client.site.previewImport.mutate(filesOf(options)));
  if (options.errors !== undefined)
    await writeFileAtomically(resolve(options.errors), found.problemsCsv ?? '');
  if (options.json) printJson(found);
  else for (const line of describePreview(found)) printLine(line);
}

async function importImages(options: ImportOptions): Promise<void> {
  if (options.errors !== undefined) {
    throw new AppError('CONFIG_INVALID', '"--errors" belongs to "--preview".', {
      action: 'Add --preview, or leave out --errors.',
    });
  }
  const { alreadyCropped } = options;
  const report = await withAgent(options.data, (client) =>
    client.site.import.mutate({ ...filesOf(options), alreadyCropped }),
  );
  if (options.json) printJson(report);
  else for (const line of describeReport(report)) printLine(line);
}

const by = {
  name: 'its own name',
  person: 'named here',
  remembered: 'remembered',
  suggested: 'a guess: confirm it',
} as const;

export function describePreview(found: ImportPreview): string[] {
  const { format, consents, subjects } = found;
  const kind = format.kind === 'spreadsheet' ? `sheet "${format.sheet}"` : `text (${format.encoding})`;
  return [
    `${found.name}: ${kind}, ${plural(found.rowCount, 'row')}, ${found.goodRows} of them without a problem.`,
    ...found.notes,
    formatTable(
      ['field', 'column', 'because of'],
      found.columns.map(({ field, column, by: why }) => [field, column ?? '(none)', by[why]]),
    ),
    ...(found.unused.length > 0 ? [`Not used: ${found.unused.join(', ')}.`] : []),
    ...describeWords(found),
    ...describeRows(found),
    formatTable(
      ['label', 'training', 'held out', 'to be split'],
      Object.entries(found.byLabel).map(([label, count]) => [
        label,
        ...[count.train, count.test, count.open].map(String),
      ]),
      [1, 2, 3],
    ),
    `Subjects: ${subjects.new} new, ${subjects.known} known.`,
    `Consents: ${consents.granted} granted, ${consents.withdrawn} withdrawn, ${consents.reconsented} given again after a withdrawal, ${consents.stillWithdrawn} still withdrawn, ${consents.known} known already.`,
    ...found.contradictions.map(
      ({ subject, lines }) =>
        `Subject "${subject}" has withdrawn, though another line says granted: lines ${lines.join(', ')}.`,
    ),
    ...found.warnings.map(({ message }) => `Warning: ${message}`),
    ...found.questions.map(
      ({ first, second, why }) => `One subject or two (${why})? "${first}" and "${second}"`,
    ),
    ...describeProblems(found),
    ...(found.blocked !== null && found.clearWithdrawals > 0
      ? [
          `The table has ${plural(found.clearWithdrawals, 'new withdrawal')}: an import records them, even if it ends with the error below.`,
        ]
      : []),
    found.blocked === null
      ? 'Nothing stands against the import. Nothing was recorded.'
      : `Not imported like this: ${found.blocked.message}\n${found.blocked.action}`,
  ];
}

function describeWords({ words }: ImportPreview): string[] {
  if (words.length === 0) return [];
  const rows = words.map(({ field, word, meaning, needsConfirmation, rows }) => [
    field,
    word,
    meaning === null ? 'unknown' : `${meaning}${needsConfirmation ? ' (a guess: confirm it)' : ''}`,
    String(rows),
  ]);
  return [formatTable(['field', 'word', 'means', 'rows'], rows, [3])];
}

function describeRows({ rows }: ImportPreview): string[] {
  if (rows.length === 0) return [];
  const cells = rows
    .slice(0, 10)
    .map(({ line, file, subject, label, split, consent }) => [
      String(line),
      file ?? '',
      subject,
      label ?? '',
      split ?? '',
      consent === null
        ? ''
        : [consent.kind, consent.validFrom, consent.expiresAt && `to ${consent.expiresAt}`]
            .filter((part) => part !== null)
            .join(' '),
    ]);
  return [formatTable(['line', 'file', 'subject', 'label', 'split', 'consent'], cells, [0])];
}

const printedProblems = 50;

function describeProblems({ problems, problemCount }: ImportPreview): string[] {
  const lines = problems
    .slice(0, printedProblems)
    .map(({ line, column, message, blocks }) =>
      [
        `line ${line}`,
        column === null ? '' : `, column "${column}"`,
        `: ${message}`,
        blocks ? '' : ' (set aside)',
      ].join(''),
    );
  const more = problemCount - lines.length;
  return more > 0
    ? [...lines, `And ${plural(more, 'more problem')}: --errors FILE writes them as CSV.`]
    : lines;
}

function describeReport(report: ImportReport): string[] {
  const list = (subjects: readonly string[], sentence: string) =>
    subjects.length > 0 ? [`${sentence}: ${subjects.join(', ')}.`] : [];
  return [
    `${plural(report.imported, 'image')} imported, ${report.setAside.length} set aside, ${report.alreadyThere} already there.`,
    ...(report.withoutConsent > 0
      ? [`Without active consent, and so not used: ${report.withoutConsent}.`]
      : []),
    ...list(report.withdrawn, 'Withdrawn now'),
    ...list(report.contradictions, 'Withdrawn, though another line says granted'),
    ...list(report.reconsented, 'Given again after a withdrawal'),
    ...list(
      report.stillWithdrawn,
      'Withdrawn, and still withdrawn, because the consent in the table is older or has no date or document',
    ),
    formatTable(
      ['label', 'training', 'held out'],
      Object.entries(report.byLabel).map(([label, count]) => [
        label,
        String(count.train),
        String(count.test),
      ]),
      [1, 2],
    ),
    ...report.setAside.slice(0, 20).map((row) => `set aside: ${row.sourceName}: ${row.reason}`),
    ...report.duplicates
      .slice(0, 20)
      .map(
        ({ kind, images }) =>
          `nearly the same picture (${duplicateKinds[kind]}): ${images.map(({ sourceName, pseudonym }) => `${sourceName} of ${pseudonym}`).join(' and ')}`,
      ),
  ];
}
