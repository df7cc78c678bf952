/** A table and what was said about it, to rows, problems and whatever a person has to confirm. Pure: reads no store. */
import { everyPurpose } from '../../consent/consent.ts';
import { quote } from '../../shared/visible-text.ts';
import type { Split } from '../../store/records.ts';
import { type ColumnChoice, type ColumnMap, type Field, type Mapping, mapColumns } from './columns.ts';
import { settleConsents } from './consent-rows.ts';
import type { DateFormat } from './dates.ts';
import { ProblemList } from './problems.ts';
import { addProblem, type Cell, readFile, readPeriodEdge, readSubject, readText } from './read-cells.ts';
import type { TableRequest } from './request.ts';
import { type ConsentRow, defaultPurpose, type LabelConsent, type LabelRow } from './rows.ts';
import type { Table, TableRow } from './table.ts';
import { type ConsentKind, consentOf, splitOf, type Understood, type ValueMap } from './values.ts';

/** `images`: a row for each image, with or without consents; `consents`: a list of consents alone. */
export type TableKind = 'images' | 'consents';

export const requiredFields: Record<TableKind, readonly Field[]> = {
  images: ['file', 'subject', 'label'],
  consents: ['subject', 'consent'],
};

/** What a person said about a table with the same columns before. */
export interface RememberedTable {
  map: ColumnMap;
  values: ValueMap;
  dates: DateFormat;
}

export interface UnderstandOptions {
  kind: TableKind;
  request: Pick<TableRequest, 'map' | 'values' | 'dates' | 'acceptMapping'>;
  remembered: RememberedTable | null;
  /** IANA name. */
  timeZone: string;
  allowedLabels?: readonly string[] | undefined;
  /** The stored pseudonym of a subject that is there already. */
  known?: ((pseudonym: string) => string | null) | undefined;
  /** Who is meant by a pseudonym of the table, where a person said that it is another's. */
  meant?: ReadonlyMap<string, string> | undefined;
}

/** A word of the table, with what it was taken for. */
export interface SeenWord {
  field: 'consent' | 'split';
  word: string;
  /** Null: nobody knows. */
  meaning: ConsentKind | Split | null;
  needsConfirmation: boolean;
  rows: number;
}

/** A withdrawal that is clear whatever else the table gets wrong, in this row or in others. */
export interface ClearWithdrawal {
  line: number;
  subject: string;
  purpose: string;
}

export interface Understanding {
  mapping: Mapping;
  /** Fields without which there is nothing to import. */
  missing: Field[];
  dates: DateFormat;
  words: SeenWord[];
  /** Rows without any problem. Of a list of consents: empty. */
  images: LabelRow[];
  /** Rows that say something about consent, one for each subject, purpose and grant, withdrawals first. */
  consents: ConsentRow[];
  withdrawals: ClearWithdrawal[];
  /** Subjects of which one row says withdrawn and another granted: the withdrawal counts. */
  contradictions: { subject: string; lines: number[] }[];
  /** All subjects that the table names, in the order of the rows. */
  subjects: string[];
  problems: ProblemList;
  /** Columns and words that were suggested and that nobody has confirmed. */
  unconfirmed: { columns: ColumnChoice[]; words: SeenWord[] };
  notes: string[];
}

export function understandTable(table: Table, options: UnderstandOptions): Understanding {
  const { kind, request, remembered } = options;
  const problems = new ProblemList();
  const mapping = mapColumns(table.header, request.map, remembered?.map ?? null);
  const columns = checkMapping(table, mapping, kind, problems);
  const missing = requiredFields[kind].filter((field) => columns.get(field) === undefined);
  const reader: RowReader = {
    table,
    columns,
    problems,
    words: new Map(),
    values: mergeValues(remembered?.values, request.values),
    dates: request.dates ?? remembered?.dates ?? 'iso',
    notes: { partial: 0, 'local time': 0 },
    options,
  };
  const rows = missing.length > 0 ? [] : table.rows.flatMap((row) => readRow(row, reader) ?? []);
  if (table.brokenOff) {
    const { line, message } = table.brokenOff;
    problems.add({ line, message: `${message}.`, action: 'Correct the quotation marks of that line.' });
  }
  if (table.rows.length === 0 && !table.brokenOff) {
    problems.add({ line: table.headerLine + 1, message: 'there are no rows below the column names.' });
  }
  if (kind === 'images') checkFiles(rows, columns.get('file')?.name ?? 'file', problems);
  const consentColumn = columns.get('consent')?.name ?? 'consent';
  const settled = settleConsents(
    rows.flatMap(({ line, subject, consent }) => {
      const isClear = consent?.kind === 'withdrawn' || !problems.hasLine(line);
      return subject !== null && consent !== null && isClear ? [{ line, subject, consent }] : [];
    }),
    consentColumn,
    problems,
  );
  const words = [...reader.words.values()];
  const accepted = request.acceptMapping === true;
  return {
    mapping,
    missing,
    dates: reader.dates,
    words,
    images: rows.flatMap((row) =>
      kind === 'images' && !problems.hasLine(row.line) ? asImage(row, settled.consents) : [],
    ),
    ...settled,
    withdrawals: rows.flatMap(({ line, subject, withdraws }) =>
      subject !== null && withdraws !== null ? [{ line, subject, purpose: withdraws }] : [],
    ),
    subjects: [...new Set(rows.flatMap(({ subject }) => subject ?? []))],
    problems,
    unconfirmed: {
      columns: accepted ? [] : mapping.choices.filter(({ by }) => by === 'suggested'),
      words: accepted ? [] : words.filter(({ needsConfirmation }) => needsConfirmation),
    },
    notes: [...table.notes, ...notesOf(reader)],
  };
}

interface Column {
  name: string;
  at: number;
}

interface RowReader {
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
interface ReadRow extends Omit<LabelRow, 'file' | 'subject' | 'label'> {
  file: string | null;
  subject: string | null;
  label: string | null;
  /** The purpose of a withdrawal that is clear. */
  withdraws: string | null;
}

/** With the withdrawal of another row of its subject, where there is one. */
function asImage({ withdraws: _, ...row }: ReadRow, consents: readonly ConsentRow[]): LabelRow[] {
  const { file, subject, label, consent } = row;
  if (file === null || subject === null || label === null) return [];
  const isOver = (other: ConsentRow) =>
    other.subject === subject &&
    other.consent.kind === 'withdrawn' &&
    (other.consent.purpose === consent?.purpose || other.consent.purpose === everyPurpose);
  return [{ ...row, file, subject, label, consent: consent && (consents.find(isOver)?.consent ?? consent) }];
}

const mergeValues = (remembered: ValueMap = {}, given: ValueMap = {}): ValueMap => ({
  consent: { ...remembered.consent, ...given.consent },
  split: { ...remembered.split, ...given.split },
});

/** The columns that are there, once. */
function checkMapping(
  table: Table,
  mapping: Mapping,
  kind: TableKind,
  problems: ProblemList,
): Map<Field, Column> {
  const line = table.headerLine;
  const columns = new Map<Field, Column>();
  const taken = new Map<string, Field>();
  for (const { field, column } of mapping.choices) {
    if (column === null) continue;
    const places = table.header.flatMap((name, at) => (name === column ? [at] : []));
    const alike = table.header.filter((name) => name.toLowerCase() === column.toLowerCase());
    if (places.length === 0) {
      problems.add({ line, message: `there is no column ${quote(column)}, which was named for "${field}".` });
    } else if (alike.length > 1) {
      problems.add({ line, message: `the column ${quote(column)} appears twice.` });
    } else if (taken.has(column)) {
      problems.add({
        line,
        message: `the column ${quote(column)} is named for "${taken.get(column)}" and for "${field}".`,
      });
    } else {
      columns.set(field, { name: column, at: places[0]! });
    }
    taken.set(column, field);
  }
  const absent = requiredFields[kind].filter(
    (field) => !mapping.choices.some((choice) => choice.field === field && choice.column !== null),
  );
  if (absent.length > 0) {
    const options = absent.flatMap((field) => mapping.ambiguous[field] ?? []);
    const ambiguous =
      options.length > 0 ? `; ${options.map((name) => quote(name)).join(' or ')} could be meant` : '';
    problems.add({
      line,
      message: `there is no column ${absent.map((field) => `"${field}"`).join(' and no ')}${ambiguous}.`,
      action:
        `Name the columns in the first line, or say which ones are meant: ` +
        `--map ${absent.map((field) => `${field}=…`).join(',')} (or choose them in the preview).`,
    });
  }
  return columns;
}

function readRow(row: TableRow, reader: RowReader): ReadRow | null {
  const { table, problems, columns, options } = reader;
  const { line, cells } = row;
  if (cells.length !== table.header.length) {
    const last = table.header[Math.min(cells.length, table.header.length - 1)] ?? '';
    const count = (number: number, word: string) => `${number} ${word}${number === 1 ? '' : 's'}`;
    problems.add({
      line,
      column: last,
      message: `the line has ${count(cells.length, 'cell')}, but there are ${count(table.header.length, 'column name')}.`,
    });
    return null;
  }
  const cellOf = (field: Field): Cell | null => {
    const column = columns.get(field);
    return column === undefined
      ? null
      : { line, column: column.name, text: cells[column.at] ?? '', type: row.types?.get(column.at) };
  };
  const optional = <T>(field: Field, read: (cell: Cell) => T | null): T | null => {
    const cell = cellOf(field);
    return cell === null || cell.text === '' ? null : read(cell);
  };
  const text = (field: Field) => optional(field, (cell) => readText(cell, problems));
  const edge = (field: Field) =>
    optional(field, (cell) => {
      const read = readPeriodEdge(
        cell,
        { format: reader.dates, timeZone: options.timeZone, field },
        problems,
      );
      if (read?.note !== undefined) reader.notes[read.note] += 1;
      return read?.value ?? null;
    });
  const isImage = options.kind === 'images';
  const written = readSubject(cellOf('subject')!, problems, options.known ?? (() => null));
  const subject = written === null ? null : (options.meant?.get(written) ?? written);
  const consentCell = cellOf('consent');
  const said = optional('consent', (cell) =>
    readWord(cell, 'consent', consentOf(cell.text, reader.values), reader),
  );
  if (!isImage && consentCell?.text === '') addProblem(problems, consentCell, 'is empty');
  const purpose = text('consent_purpose');
  const consent: LabelConsent | null = said && {
    kind: said.meaning,
    // Who withdraws without saying from what withdraws from everything.
    purpose: purpose ?? (said.meaning === 'withdrawn' ? everyPurpose : defaultPurpose),
    documentVersion: text('consent_document'),
    validFrom: edge('consent_from'),
    expiresAt: edge('consent_expires'),
  };
  const { validFrom, expiresAt } = consent ?? {};
  if (validFrom && expiresAt && expiresAt < validFrom) {
    const { column } = cellOf('consent_expires')!;
    problems.add({ line, column, value: expiresAt, message: 'the consent ends before it begins.' });
  }
  if (consent?.kind === 'granted' && consent.purpose === everyPurpose) {
    addProblem(problems, cellOf('consent_purpose')!, 'is no purpose: a consent is given for one');
  }
  return {
    line,
    file: isImage ? readFile(cellOf('file')!, problems) : null,
    subject,
    label: isImage ? readLabel(cellOf('label')!, reader) : null,
    split: isImage
      ? (optional('split', (cell) => readWord(cell, 'split', splitOf(cell.text, reader.values), reader))
          ?.meaning ?? null)
      : null,
    site: isImage ? text('site') : null,
    consent,
    withdraws: said?.meaning === 'withdrawn' && !said.needsConfirmation ? consent!.purpose : null,
  };
}

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

/** A file belongs to one row. */
function checkFiles(rows: readonly ReadRow[], column: string, problems: ProblemList): void {
  const lineOfFile = new Map<string, number>();
  for (const { line, file } of rows) {
    if (file === null) continue;
    const key = file.normalize('NFC');
    const earlier = lineOfFile.get(key);
    if (earlier === undefined) lineOfFile.set(key, line);
    else
      problems.add({ line, column, value: file, message: `${quote(file)} is already in line ${earlier}.` });
  }
}

function notesOf({ notes, options }: RowReader): string[] {
  const partial =
    notes.partial === 0
      ? []
      : [
          'Dates without a day: a consent then begins with the last day of the month or year, and ends with the first.',
        ];
  return notes['local time'] === 0
    ? partial
    : [...partial, `Times without an offset were read as local times of ${options.timeZone}.`];
}

/** What is worth remembering for the next table with these columns; null where Anneal's own names and words are used. */
export function toRemember(
  understanding: Understanding,
  request: UnderstandOptions['request'],
): RememberedTable | null {
  const { mapping, dates, words } = understanding;
  const map = Object.fromEntries(
    mapping.choices.filter(({ by }) => by !== 'name').map(({ field, column }) => [field, column]),
  ) as ColumnMap;
  const values: ValueMap = { consent: { ...request.values?.consent }, split: { ...request.values?.split } };
  for (const { field, word, meaning, needsConfirmation } of words) {
    if (needsConfirmation && meaning !== null) Object.assign(values[field]!, { [word]: meaning });
  }
  const isOwn =
    Object.keys(map).length === 0 &&
    dates === 'iso' &&
    Object.keys(values.consent!).length + Object.keys(values.split!).length === 0;
  return isOwn ? null : { map, values, dates };
}
