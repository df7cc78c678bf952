/** Tables as text: comma, semicolon, tab or bar between the cells, quotation marks around them where needed. */
import { CsvError, parse } from 'csv-parse/sync';
import { malformed, type Table, type TableRow, tableLimits } from './table.ts';
import type { DecodedText } from './text-encoding.ts';

const delimiters = [',', ';', '\t', '|'] as const;

/**
 * The first line that is not empty holds the column names. Empty rows are left out; rows whose number of cells differs
 * stay as they are.
 * @throws AppError CSV_MALFORMED when the file is empty or holds more than {@link tableLimits}
 */
export function parseDelimited(decoded: DecodedText, name: string): Table {
  const { text, skippedLines, named } = takeSeparatorLine(decoded.text);
  const delimiter = named ?? delimiterOf(text);
  const notes = [...decoded.notes];
  const { rows, brokenOff } = parseRows(replaceTextMarkers(text, delimiter), delimiter, skippedLines);
  const [header, ...body] = rows.filter(({ cells }) => cells.some((cell) => cell !== ''));
  if (!header)
    throw malformed(
      name,
      brokenOff ? `line ${brokenOff.line}: ${brokenOff.message}` : 'line 1: the file is empty',
    );
  if (body.length > tableLimits.rows) {
    throw malformed(name, `line ${tableLimits.rows + 2}: there are more than ${tableLimits.rows} rows`, {
      action: 'Split the table into several files.',
    });
  }
  if (header.cells.length > tableLimits.columns) {
    throw malformed(name, `line ${header.line}: there are more than ${tableLimits.columns} columns`, {
      action: 'Export only the columns that Anneal needs.',
    });
  }
  return {
    name,
    headerLine: header.line,
    header: header.cells,
    rows: body,
    format: { kind: 'text', encoding: decoded.encoding, delimiter, sheet: null },
    notes,
    brokenOff,
  };
}

/** Excel's own first line `sep=;`. */
function takeSeparatorLine(text: string): { text: string; skippedLines: number; named: string | null } {
  const line = /^\uFEFF?"?sep=(.)"?[,;\t]*(?:\r\n|\r|\n|$)/i.exec(text);
  return line === null
    ? { text, skippedLines: 0, named: null }
    : { text: text.slice(line[0].length), skippedLines: 1, named: line[1]! };
}

/** The one that the line of the column names holds most, outside of quotation marks. */
function delimiterOf(text: string): string {
  const firstLine = /[^\r\n]+/.exec(text)?.[0] ?? '';
  const bare = firstLine.replaceAll(/"(?:[^"]|"")*"/g, '');
  const counts = delimiters.map((delimiter) => bare.split(delimiter).length - 1);
  return delimiters[counts.indexOf(Math.max(...counts))]!;
}

const escapeForPattern = (character: string) => character.replace(/[|\\^$.*+?()[\]{}-]/g, '\\$&');

/**
 * `="00457"` is how a CSV tells Excel that digits are text. In quotation marks it reads `"=""00457"""`; what only looks like it
 * inside of a cell in quotation marks is that cell's own text.
 */
function replaceTextMarkers(text: string, delimiter: string): string {
  if (!text.includes('="')) return text;
  const edge = escapeForPattern(delimiter);
  const quotedCell = '[ \\t]*"[^"]*(?:""[^"]*)*"';
  const marker = `="([^"\\r\\n]*)"(?=[${edge}\\r\\n]|$)`;
  return text.replaceAll(
    new RegExp(`(^|[${edge}\\r\\n])(?:${quotedCell}|${marker})`, 'g'),
    (all, before: string, inside: string | undefined) =>
      inside === undefined ? all : `${before}"${inside}"`,
  );
}
const quotedTextMarker = /^="(.*)"$/s;
/** As people type digits as text into a spreadsheet, and as Anneal writes cells that a spreadsheet would calculate. */
const typedTextMarker = /^'(?=[\d=+\-@])/;

/** @param cell as the file gives it */
export function withoutTextMarker(cell: string): string {
  const trimmed = trimSpaces(cell);
  return (quotedTextMarker.exec(trimmed)?.[1] ?? trimmed).replace(typedTextMarker, '');
}

/** Spaces of all widths, also no-break ones; not what has no width at all, which the value's own check names. */
const trimSpaces = (text: string) => text.replace(/^[\p{Zs}\t\r\n]+|[\p{Zs}\t\r\n]+$/gu, '');

function parseRows(
  text: string,
  delimiter: string,
  skippedLines: number,
): { rows: TableRow[]; brokenOff: Table['brokenOff'] } {
  const rows: TableRow[] = [];
  try {
    parse(text, {
      bom: true,
      delimiter,
      info: true,
      relax_column_count: true,
      skip_empty_lines: true,
      // Also what stands around quotation marks: `a, "b" `.
      trim: true,
      on_record: (entry: unknown) => {
        const { record, info } = entry as { record: string[]; info: { lines: number } };
        rows.push({ line: info.lines + skippedLines, cells: record.map(withoutTextMarker) });
        return null;
      },
    });
    return { rows, brokenOff: null };
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const { lines } = error as CsvError & { lines?: number };
    const line = (lines ?? 1) + skippedLines;
    return { rows, brokenOff: { line, message: 'a quotation mark is out of place' } };
  }
}
