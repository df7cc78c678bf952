/** The CSV in which a site says whose image each file is, what it shows and what was consented to. */
import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { CsvError, parse } from 'csv-parse/sync';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import { type Split, splitSchema } from '../store/records.ts';

/** One image as the CSV describes it. */
export interface LabelRow {
  /** Line of the CSV, 1-based, for messages. */
  line: number;
  /** Relative to the folder of images, with `/` as separator; never leads out of it. */
  file: string;
  subject: string;
  label: string;
  split: Split | null;
  site: string | null;
  /** Null when the CSV says nothing about consent. */
  consent: LabelConsent | null;
}

export interface LabelConsent {
  kind: 'granted' | 'withdrawn' | 'none';
  purpose: string;
  /** Null when the CSV does not name the consent document. */
  documentVersion: string | null;
  /** ISO 8601 date or date-time; null when not given. */
  validFrom: string | null;
  expiresAt: string | null;
}

export const defaultPurpose = 'federated-training';

/** A million lines of ordinary length; a larger file is a mistake, not a list of images. */
const maxFileBytes = 128 * 2 ** 20;
const requiredColumns = ['file', 'subject', 'label'] as const;
const optionalColumns = [
  'split',
  'site',
  'consent',
  'consent_purpose',
  'consent_document',
  'consent_from',
  'consent_expires',
] as const;
type Column = (typeof requiredColumns)[number] | (typeof optionalColumns)[number];

const emptyToNull = (value: string | undefined) => (value === undefined || value === '' ? null : value);
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must be refused
const controlCharacters = /[\u0000-\u001f\u007f]/;
const word = (maxLength: number) =>
  z
    .string()
    .min(1, 'is empty')
    .max(maxLength, `is longer than ${maxLength} characters`)
    .refine((text) => !controlCharacters.test(text), 'holds a control character');
const optional = <T extends string>(schema: z.ZodType<T, string>) =>
  z.string().optional().transform(emptyToNull).pipe(schema.nullable());
const isoDate = z.union([z.iso.date(), z.iso.datetime({ offset: true })], {
  error: 'is not an ISO date such as 2026-01-31',
});
const consentWord = z.enum(['granted', 'withdrawn', 'none'], {
  error: 'is neither "granted", "withdrawn" nor "none"',
});

const rowSchema = z.object({
  file: word(512).transform((path, context) => {
    const inside = pathInside(path);
    if (inside !== null) return inside;
    context.addIssue({ code: 'custom', message: 'leads out of the image folder' });
    return z.NEVER;
  }),
  subject: word(128),
  label: word(128),
  split: optional(z.enum(splitSchema.options, { error: 'is neither "train" nor "test"' })),
  site: optional(word(128)),
  consent: optional(consentWord),
  consent_purpose: optional(word(128)),
  consent_document: optional(word(128)),
  consent_from: optional(isoDate),
  consent_expires: optional(isoDate),
});
type ParsedRow = z.infer<typeof rowSchema>;

/**
 * Reads and checks the whole CSV: UTF-8 with or without BOM, `,` or `;`, any line ends.
 * @param options `allowedLabels`: the labels of the federation; without them any label will do
 * @throws AppError CSV_MISSING; CSV_MALFORMED naming file, line and column; LABEL_UNKNOWN naming the line
 */
export async function readLabelsCsv(
  file: string,
  options: { allowedLabels?: readonly string[] | undefined } = {},
): Promise<LabelRow[]> {
  return parseLabelsCsv(await readCsvText(file), basename(file), options);
}

/** As {@link readLabelsCsv}, for text that was read already; `name` is what messages call the file. */
export function parseLabelsCsv(
  text: string,
  name: string,
  options: { allowedLabels?: readonly string[] | undefined } = {},
): LabelRow[] {
  const malformed = (where: string) => new AppError('CSV_MALFORMED', `${name}, ${where}.`);
  const [header, ...lines] = parseRecords(text, name);
  if (!header) throw malformed('line 1: the file is empty');
  const columns = checkHeader(header.record, malformed);
  if (lines.length === 0) throw malformed('line 2: there are no rows below the column names');

  const allowed = options.allowedLabels && new Set(options.allowedLabels);
  const lineOfFile = new Map<string, number>();
  const rows = lines.map(({ record, line }) => {
    const row = parseRow(record, columns, (where) => malformed(`line ${line}, ${where}`));
    const earlier = lineOfFile.get(row.file);
    if (earlier !== undefined) {
      throw malformed(`line ${line}, column "file": "${row.file}" is already in line ${earlier}`);
    }
    lineOfFile.set(row.file, line);
    if (allowed && !allowed.has(row.label)) {
      throw new AppError(
        'LABEL_UNKNOWN',
        `${name}, line ${line}: the label "${row.label}" is not one of ${[...allowed].join(', ')}.`,
      );
    }
    return toLabelRow(row, line);
  });
  checkConsents(rows, malformed);
  return rows;
}

/**
 * One column of a labels CSV, also one that Anneal knows nothing about, by the row's file.
 * @param column its name; letter case does not matter
 * @throws AppError CSV_MISSING; CSV_MALFORMED when there is no such column
 */
export async function readLabelsColumn(file: string, column: string): Promise<Map<string, string>> {
  const name = basename(file);
  const malformed = (where: string) => new AppError('CSV_MALFORMED', `${name}, ${where}.`);
  const [header, ...lines] = parseRecords(await readCsvText(file), name);
  const columns = checkHeader(header?.record ?? [], malformed);
  const at = columns.indexOf(column.toLowerCase());
  if (at < 0) throw malformed(`line 1: there is no column "${column}"`);
  const fileAt = columns.indexOf('file');
  return new Map(lines.map(({ record }) => [pathInside(record[fileAt] ?? '') ?? '', record[at] ?? '']));
}

async function readCsvText(file: string): Promise<string> {
  const name = basename(file);
  let bytes: Buffer;
  try {
    const { size } = await stat(file);
    if (size > maxFileBytes) throw new AppError('CSV_MALFORMED', `${name} is larger than 128 MB.`);
    bytes = await readFile(file);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError('CSV_MISSING', `The CSV file "${name}" could not be read.`, { cause: error });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    const line = lineOfBadByte(bytes);
    throw new AppError('CSV_MALFORMED', `${name}, line ${line}: the text is not UTF-8.`, {
      action: 'Save the file as "CSV UTF-8" and import again.',
      cause: error,
    });
  }
}

// The replacement character takes the place of the first byte that is not UTF-8.
function lineOfBadByte(bytes: Uint8Array): number {
  return new TextDecoder('utf-8')
    .decode(bytes)
    .split('\uFFFD', 1)[0]!
    .split(/\r\n|\r|\n/).length;
}

interface CsvRecord {
  record: string[];
  line: number;
}

function parseRecords(text: string, name: string): CsvRecord[] {
  try {
    // `info.lines` is the line on which a record ends; no cell here has reason to hold a line break.
    const records = parse(text, {
      bom: true,
      delimiter: delimiterOf(text),
      info: true,
      relax_column_count: true,
      skip_empty_lines: true,
      trim: true,
    }) as unknown as { record: string[]; info: { lines: number } }[];
    return records
      .filter(({ record }) => record.some((cell) => cell !== ''))
      .map(({ record, info }) => ({ record, line: info.lines }));
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const { lines } = error as CsvError & { lines?: number };
    throw new AppError('CSV_MALFORMED', `${name}, line ${lines ?? 1}: a quotation mark is out of place.`, {
      cause: error,
    });
  }
}

/** The names of the columns hold neither character, so the first line decides. */
function delimiterOf(text: string): ',' | ';' {
  const firstLine = text.split(/\r\n|\r|\n/, 1)[0] ?? '';
  return firstLine.includes(';') ? ';' : ',';
}

function checkHeader(header: readonly string[], malformed: (where: string) => AppError): string[] {
  const columns = header.map((name) => name.toLowerCase());
  const missing = requiredColumns.filter((name) => !columns.includes(name));
  if (missing.length > 0) {
    throw malformed(`line 1: there is no column ${missing.map((name) => `"${name}"`).join(' and no ')}`);
  }
  const twice = columns.find((name, index) => name !== '' && columns.indexOf(name) !== index);
  if (twice !== undefined) throw malformed(`line 1: the column "${twice}" appears twice`);
  return columns;
}

function parseRow(
  record: readonly string[],
  columns: readonly string[],
  malformed: (where: string) => AppError,
): ParsedRow {
  if (record.length !== columns.length) {
    const last = columns[Math.min(record.length, columns.length - 1)];
    throw malformed(
      `column "${last}": the line has ${plural(record.length, 'cell')}, but there are ${plural(columns.length, 'column name')}`,
    );
  }
  const result = rowSchema.safeParse(Object.fromEntries(columns.map((name, index) => [name, record[index]])));
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const column = String(issue.path[0]) as Column;
  const value = record[columns.indexOf(column)] ?? '';
  throw malformed(`column "${column}": ${value === '' ? 'it' : `"${shorten(value)}"`} ${issue.message}`);
}

const shorten = (text: string) => {
  const clean = text.replaceAll(new RegExp(controlCharacters, 'g'), '?');
  return clean.length > 40 ? `${clean.slice(0, 39)}…` : clean;
};

function toLabelRow(row: ParsedRow, line: number): LabelRow {
  const consent: LabelConsent | null =
    row.consent === null
      ? null
      : {
          kind: row.consent,
          purpose: row.consent_purpose ?? defaultPurpose,
          documentVersion: row.consent_document,
          validFrom: row.consent_from,
          expiresAt: row.consent_expires,
        };
  const { file, subject, label, split, site } = row;
  return { line, file, subject, label, split, site, consent };
}

/** One subject, one consent per purpose: rows that contradict each other are refused. */
function checkConsents(rows: readonly LabelRow[], malformed: (where: string) => AppError): void {
  const first = new Map<string, { line: number; text: string }>();
  for (const { line, subject, consent } of rows) {
    if (!consent) continue;
    if (consent.expiresAt && consent.validFrom && consent.expiresAt < consent.validFrom) {
      throw malformed(`line ${line}, column "consent_expires": the consent ends before it begins`);
    }
    const key = JSON.stringify([subject, consent.purpose]);
    const text = JSON.stringify(consent);
    const earlier = first.get(key);
    if (earlier && earlier.text !== text) {
      throw malformed(
        `line ${line}, column "consent": the consent of subject "${subject}" differs from line ${earlier.line}`,
      );
    }
    if (!earlier) first.set(key, { line, text });
  }
}

/** The path with `/`, or null when it is absolute or leads out of its folder, on any system. */
function pathInside(path: string): string | null {
  const parts = path.replaceAll('\\', '/').split('/');
  if (parts[0] === '' || /^[a-z]:/i.test(path) || parts.includes('..')) return null;
  const kept = parts.filter((part) => part !== '' && part !== '.');
  return kept.length === 0 ? null : kept.join('/');
}
