/** A table as it was read, whatever file it came from. */
import { AppError } from '../../shared/errors.ts';

/** What a cell was in a spreadsheet, where that says more than its text. */
export type CellType = 'date' | 'number' | 'error';

export interface TableRow {
  /** Line (CSV: the one on which the row ends) or row of the sheet, 1-based, for messages. */
  line: number;
  /** As many as the file gives: a row may be shorter or longer than the header. */
  cells: string[];
  /** By index; only for cells of spreadsheets. */
  types?: ReadonlyMap<number, CellType>;
}

export interface TableFormat {
  kind: 'text' | 'spreadsheet';
  /** Null in a spreadsheet. */
  encoding: string | null;
  delimiter: string | null;
  /** Null in a text file. */
  sheet: string | null;
}

export interface Table {
  /** Name of the file, without its folder. */
  name: string;
  /** Line of the column names. */
  headerLine: number;
  /** Names of the columns as they stand in the file, trimmed; unnamed ones are empty. */
  header: string[];
  rows: TableRow[];
  format: TableFormat;
  /** What was understood of the file that a person might not expect, in sentences. */
  notes: string[];
  /** Why the file could be read only up to here; the rows before it are there. */
  brokenOff: { line: number; message: string } | null;
}

export const tableLimits = {
  /** A million lines of ordinary length. */
  textBytes: 128 * 2 ** 20,
  spreadsheetBytes: 16 * 2 ** 20,
  /** What a spreadsheet may unpack to. */
  unpackedBytes: 128 * 2 ** 20,
  rows: 1_000_000,
  columns: 1000,
  cellCharacters: 10_000,
} as const;

/** Encodings that a person may choose; of themselves only Unicode's are recognised. */
export const encodings = [
  'utf-8',
  'utf-16le',
  'utf-16be',
  'windows-1252',
  'windows-1250',
  'windows-1251',
  'windows-1253',
  'windows-1254',
  'iso-8859-2',
  'iso-8859-15',
  'macintosh',
] as const;
export type Encoding = (typeof encodings)[number];

export interface ReadTableOptions {
  /** Without it: UTF-8 or UTF-16, whichever the bytes are. */
  encoding?: Encoding | undefined;
  /** Of a spreadsheet; its first one when absent. */
  sheet?: string | undefined;
}

/** @param where for instance `line 3, column "label": …`, without a full stop */
export const malformed = (name: string, where: string, options?: { action?: string; cause?: unknown }) =>
  new AppError('CSV_MALFORMED', `${name}, ${where}.`, options);
