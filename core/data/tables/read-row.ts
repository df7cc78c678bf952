/** One row of a table to what it says; every problem of it goes to the list. */

import { defaultPurpose } from '../../config/consent-defaults.ts';
import { everyPurpose } from '../../consent/consent.ts';
import { plural } from '../../shared/text.ts';
import { quote } from '../../shared/visible-text.ts';
import type { Split } from '../../store/records.ts';
import type { Field } from './columns.ts';
import type { DateFormat } from './dates.ts';
import type { ProblemList } from './problems.ts';
import { addProblem, type Cell, readFile, readPeriodEdge, readSubject, readText } from './read-cells.ts';
import type { LabelConsent, LabelRow } from './rows.ts';
import type { Table, TableRow } from './table.ts';
import type { SeenWord, UnderstandOptions } from './understand-options.ts';
import { type ConsentKind, consentOf, splitOf, type Understood, type ValueMap } from './values.ts';

export interface Column {
  name: string;
  at: number;
}

/** For all rows of a table. */
export interface RowReader {
  table: Table;
  columns: ReadonlyMap<Field, Column>;
  problems: ProblemList;
  words: Map<string, SeenWord>;
  values: ValueMap;
  dates: DateFormat;
  /** How many dates were understood with a meaning that a person should know. */
  notes: Record<'partial' | 'local time', number>;
  options: UnderstandOptions;
}

/** A row as far as it is understood: null is what was wrong, or is not there. */
export interface ReadRow extends Omit<LabelRow, 'file' | 'subject' | 'label'> {
  file: string | null;
  subject: string | null;
  label: string | null;
  /** The purpose of a withdrawal that is clear. */
  withdraws: string | null;
}

/** @returns null when its cells cannot be told apart */
export function readRow(row: TableRow, reader: RowReader): ReadRow | null {
  const { table, problems, options } = reader;
  const { line, cells } = row;
  if (cells.length !== table.header.length) {
    const column = table.header[Math.min(cells.length, table.header.length - 1)] ?? '';
    const message = `the line has ${plural(cells.length, 'cell')}, but there are ${plural(table.header.length, 'column name')}.`;
    problems.add({ line, column, message });
    return null;
  }
  const cell = cellReader(row, reader);
  const isImage = options.kind === 'images';
  const written = readSubject(cell.of('subject')!, problems, options.known ?? (() => null));
  const said = readSaid(cell, isImage, reader);
  const consent = said && readConsent(cell, said.meaning, reader);
  return {
    line,
    file: isImage ? readFile(cell.of('file')!, problems) : null,
    subject: written === null ? null : (options.meant?.get(written) ?? written),
    label: isImage ? readLabel(cell.of('label')!, reader) : null,
    split: isImage ? readSplit(cell, reader) : null,
    site: isImage ? cell.text('site') : null,
    consent,
    withdraws: said?.meaning === 'withdrawn' && !said.needsConfirmation ? consent!.purpose : null,
  };
}

interface CellReader {
  of(field: Field): Cell | null;
  /** Null when the cell is empty, or there is no such column. */
  filled<T>(field: Field, read: (cell: Cell) => T | null): T | null;
  text(field: Field): string | null;
}

function cellReader({ line, cells, types }: TableRow, { columns, problems }: RowReader): CellReader {
  const reader: CellReader = {
    of(field) {
      const column = columns.get(field);
      if (column === undefined) return null;
      return { line, column: column.name, text: cells[column.at] ?? '', type: types?.get(column.at) };
    },
    filled(field, read) {
      const cell = reader.of(field);
      return cell === null || cell.text === '' ? null : read(cell);
    },
    text: (field) => reader.filled(field, (cell) => readText(cell, problems)),
  };
  return reader;
}

function readSaid(cell: CellReader, isImage: boolean, reader: RowReader): Understood<ConsentKind> | null {
  const consentCell = cell.of('consent');
  if (!isImage && consentCell?.text === '') return addProblem(reader.problems, consentCell, 'is empty');
  return cell.filled('consent', (one) =>
    readWord(one, 'consent', consentOf(one.text, reader.values), reader),
  );
}

function readConsent(cell: CellReader, kind: ConsentKind, reader: RowReader): LabelConsent {
  const { problems, options, dates } = reader;
  const edge = (field: Field) =>
    cell.filled(field, (one) => {
      const read = readPeriodEdge(one, { format: dates, timeZone: options.timeZone, field }, problems);
      if (read?.note !== undefined) reader.notes[read.note] += 1;
      return read?.value ?? null;
    });
  const consent = {
    kind,
    // Who withdraws without saying from what withdraws from everything.
    purpose: cell.text('consent_purpose') ?? (kind === 'withdrawn' ? everyPurpose : defaultPurpose),
    documentVersion: cell.text('consent_document'),
    validFrom: edge('consent_from'),
    expiresAt: edge('consent_expires'),
  };
  const { validFrom, expiresAt, purpose } = consent;
  if (validFrom !== null && expiresAt !== null && expiresAt < validFrom) {
    const { line, column } = cell.of('consent_expires')!;
    problems.add({ line, column, value: expiresAt, message: 'the consent ends before it begins.' });
  }
  if (kind === 'granted' && purpose === everyPurpose)
    addProblem(problems, cell.of('consent_purpose')!, 'is no purpose: a consent is given for one');
  return consent;
}

const readSplit = (cell: CellReader, reader: RowReader): Split | null =>
  cell.filled('split', (one) => readWord(one, 'split', splitOf(one.text, reader.values), reader))?.meaning ??
  null;

function readLabel(cell: Cell, { problems, options }: RowReader): string | null {
  const label = readText(cell, problems);
  const allowed = options.allowedLabels;
  if (label === null || allowed === undefined || allowed.includes(label)) return label;
  problems.add({
    line: cell.line,
    value: cell.text,
    message: `the label ${quote(label)} is not one of ${allowed.join(', ')}.`,
    code: 'LABEL_UNKNOWN',
  });
  return null;
}

const expectedWords = {
  consent: 'is neither "granted", "withdrawn" nor "none"',
  split: 'is neither "train" nor "test"',
} as const;

/** So many different words of one column are listed; more are not words but free text. */
const maxWords = 200;

function readWord<T extends ConsentKind | Split>(
  cell: Cell,
  field: 'consent' | 'split',
  understood: Understood<T> | null,
  { words, problems }: RowReader,
): Understood<T> | null {
  const key = `${field} ${cell.text.toLowerCase()}`;
  const seen = words.get(key) ?? {
    field,
    word: cell.text,
    meaning: understood?.meaning ?? null,
    needsConfirmation: understood?.needsConfirmation ?? false,
    rows: 0,
  };
  seen.rows += 1;
  if (words.size < maxWords) words.set(key, seen);
  if (understood !== null) return understood;
  const meanings = field === 'consent' ? 'granted, withdrawn or none' : 'train or test';
  const action =
    cell.text.length > 100
      ? null
      : `Correct the word, or say what it means (${meanings}): --values ${field}:${quote(cell.text).slice(1, -1)}=… (or choose it in the preview).`;
  return addProblem(problems, cell, expectedWords[field], action);
}
