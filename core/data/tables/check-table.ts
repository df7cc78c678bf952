/** What is wrong with a table as a whole: its columns, and files that several rows claim. */
import { quote } from '../../shared/visible-text.ts';
import type { Field, Mapping } from './columns.ts';
import type { ProblemList } from './problems.ts';
import type { Column, ReadRow } from './read-row.ts';
import { type Table, tableLimits } from './table.ts';
import { requiredFields, type TableKind } from './understand-options.ts';

/** The columns that are there, once. */
export function checkMapping(
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

/** In every column, also those that nobody uses: a quotation mark that is out of place makes one cell of many rows. */
export function checkCellLengths({ header, rows }: Table, problems: ProblemList): void {
  const most = tableLimits.cellCharacters;
  for (const { line, cells } of rows) {
    for (const [at, text] of cells.entries()) {
      if (text.length <= most) continue;
      problems.add({
        ...{ line, column: header[at] ?? null },
        message: `the cell is longer than ${most} characters.`,
        action:
          'Look for a quotation mark that is out of place, in that line or before it, or shorten the cell.',
      });
    }
  }
}

/** A file belongs to one row. */
export function checkFiles(rows: readonly ReadRow[], column: string, problems: ProblemList): void {
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
