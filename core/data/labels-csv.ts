/** A labels table with Anneal's own column names, read whole or not at all: for demos, simulations and tests of them. */
import { basename } from 'node:path';
import { machineTimeZone } from '../consent/period.ts';
import { parseDelimited } from './tables/delimited-text.ts';
import { pathInside } from './tables/read-cells.ts';
import { readTable } from './tables/read-table.ts';
import type { LabelRow } from './tables/rows.ts';
import { malformed, type Table } from './tables/table.ts';
import { understandTable } from './tables/understand.ts';

interface LabelsOptions {
  /** The labels of the federation; without them any label will do. */
  allowedLabels?: readonly string[] | undefined;
}

/**
 * Reads and checks the whole table.
 * @throws AppError CSV_MISSING; CSV_MALFORMED naming file, line and column; LABEL_UNKNOWN naming the line
 */
export async function readLabelsCsv(file: string, options: LabelsOptions = {}): Promise<LabelRow[]> {
  return rowsOf(await readTable(file), options);
}

/** As {@link readLabelsCsv}, for text that was read already; `name` is what messages call the file. */
export function parseLabelsCsv(text: string, name: string, options: LabelsOptions = {}): LabelRow[] {
  return rowsOf(parseDelimited({ text, encoding: 'utf-8', notes: [] }, name), options);
}

function rowsOf(table: Table, { allowedLabels }: LabelsOptions): LabelRow[] {
  const understood = understandTable(table, {
    kind: 'images',
    request: { acceptMapping: true },
    remembered: null,
    timeZone: machineTimeZone(),
    allowedLabels,
  });
  const error = understood.problems.toError(table.name);
  if (error !== null) throw error;
  return understood.images;
}

/**
 * One column of a labels table, also one that Anneal knows nothing about, by the row's file.
 * @param column its name; letter case does not matter
 * @throws AppError CSV_MISSING; CSV_MALFORMED when there is no such column
 */
export async function readLabelsColumn(file: string, column: string): Promise<Map<string, string>> {
  const { header, rows } = await readTable(file);
  const find = (name: string) => {
    const at = header.findIndex((one) => one.toLowerCase() === name.toLowerCase());
    if (at < 0) throw malformed(basename(file), `line 1: there is no column "${name}"`);
    return at;
  };
  const at = find(column);
  const fileAt = find('file');
  return new Map(rows.map(({ cells }) => [pathInside(cells[fileAt] ?? '') ?? '', cells[at] ?? '']));
}
