/** A table and what was said about it, to rows, problems and whatever a person has to confirm. Pure: reads no store. */
import { everyPurpose } from '../../consent/consent.ts';
import { samePurpose } from '../../consent/purpose-names.ts';
import { checkCellLengths, checkFiles, checkMapping } from './check-table.ts';
import { type ColumnChoice, type ColumnMap, type Field, type Mapping, mapColumns } from './columns.ts';
import { settleConsents } from './consent-rows.ts';
import type { DateFormat } from './dates.ts';
import { ProblemList } from './problems.ts';
import { type ReadRow, type RowReader, readRow } from './read-row.ts';
import type { ConsentRow, LabelRow } from './rows.ts';
import type { Table } from './table.ts';
import {
  type RememberedTable,
  requiredFields,
  type SeenWord,
  type UnderstandOptions,
} from './understand-options.ts';
import type { ValueMap } from './values.ts';

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
  /** What words mean, as a person said, now or before. */
  values: ValueMap;
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
  checkCellLengths(table, problems);
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
  const withdrawn = Map.groupBy(
    settled.consents.filter(({ consent }) => consent.kind === 'withdrawn'),
    ({ subject }) => subject,
  );
  const words = [...reader.words.values()];
  const accepted = request.acceptMapping === true;
  return {
    ...{ mapping, missing, words, problems },
    ...{ dates: reader.dates, values: reader.values },
    images: rows.flatMap((row) =>
      kind === 'images' && !problems.hasLine(row.line) ? asImage(row, withdrawn) : [],
    ),
    ...settled,
    withdrawals: rows.flatMap(({ line, subject, withdraws }) =>
      subject !== null && withdraws !== null ? [{ line, subject, purpose: withdraws }] : [],
    ),
    subjects: [...new Set(rows.flatMap(({ subject }) => subject ?? []))],
    unconfirmed: {
      columns: accepted ? [] : mapping.choices.filter(({ by }) => by === 'suggested'),
      words: accepted ? [] : words.filter(({ needsConfirmation }) => needsConfirmation),
    },
    notes: [...table.notes, ...notesOf(reader)],
  };
}

/** With the withdrawal of another row of its subject, where there is one. */
function asImage(
  { withdraws: _, ...row }: ReadRow,
  withdrawn: ReadonlyMap<string, readonly ConsentRow[]>,
): LabelRow[] {
  const { file, subject, label, consent } = row;
  if (file === null || subject === null || label === null) return [];
  const over = withdrawn
    .get(subject)
    ?.find(
      (other) =>
        other.consent.purpose === everyPurpose ||
        (consent !== null && samePurpose(consent.purpose, other.consent.purpose)),
    );
  return [{ ...row, file, subject, label, consent: consent && (over?.consent ?? consent) }];
}

const mergeValues = (remembered: ValueMap = {}, given: ValueMap = {}): ValueMap => ({
  consent: { ...remembered.consent, ...given.consent },
  split: { ...remembered.split, ...given.split },
});

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
export function toRemember({ mapping, dates, words, values: said }: Understanding): RememberedTable | null {
  const map = Object.fromEntries(
    mapping.choices.filter(({ by }) => by !== 'name').map(({ field, column }) => [field, column]),
  ) as ColumnMap;
  const values = { consent: { ...said.consent }, split: { ...said.split } };
  for (const { field, word, meaning, needsConfirmation } of words) {
    if (needsConfirmation && meaning !== null) Object.assign(values[field], { [word]: meaning });
  }
  const count = [map, values.consent, values.split].reduce((sum, one) => sum + Object.keys(one).length, 0);
  return count === 0 && dates === 'iso' ? null : { map, values, dates };
}
