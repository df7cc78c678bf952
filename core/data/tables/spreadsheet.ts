/** Spreadsheets (.xlsx), read in a worker thread with bounds on memory and time. */
import { Worker } from 'node:worker_threads';
import { withoutTextMarker } from './delimited-text.ts';
import {
  type SpreadsheetReply,
  type SpreadsheetRequest,
  spreadsheetReplySchema,
} from './spreadsheet-protocol.ts';
import {
  type CellType,
  malformed,
  type ReadTableOptions,
  type Table,
  type TableRow,
  tableLimits,
} from './table.ts';

const maxMemoryMb = 512;
const timeoutMs = 120_000;

/**
 * Dates become ISO dates, numbers stay as they are written in the file, a formula is its stored result.
 * @throws AppError CSV_MALFORMED
 */
export async function readSpreadsheet(
  bytes: Uint8Array,
  name: string,
  options: ReadTableOptions,
): Promise<Table> {
  const tooLarge = () =>
    malformed(name, 'line 1: the spreadsheet is too large to be read', {
      action: 'Save the sheet as "CSV UTF-8" and import that file.',
    });
  if (bytes.length > tableLimits.spreadsheetBytes) throw tooLarge();
  const reply = await ask({
    bytes: new Uint8Array(bytes),
    ...(options.sheet !== undefined && { sheet: options.sheet }),
  });
  if (reply === null) throw tooLarge();
  if (reply.kind === 'rows') return toTable(reply, name);
  if (reply.why === 'too large') throw tooLarge();
  if (reply.why === 'no such sheet') {
    throw malformed(name, `line 1: there is no sheet "${options.sheet ?? ''}"`, {
      action: `Name one of its sheets: ${reply.sheets.slice(0, 20).join(', ')}.`,
    });
  }
  throw malformed(name, 'line 1: the file is no spreadsheet that Anneal can read', {
    action: 'Open it in the spreadsheet program, save it as "CSV UTF-8" and import that file.',
  });
}

function toTable(reply: Extract<SpreadsheetReply, { kind: 'rows' }>, name: string): Table {
  const rows = reply.rows
    .filter(({ cells }) => cells.some(({ text }) => text.trim() !== ''))
    .map(({ line, cells }) => toRow(line, cells));
  const [header, ...body] = rows;
  if (!header) throw malformed(name, `line 1: the sheet "${reply.sheet}" is empty`);
  if (header.cells.length > tableLimits.columns) {
    throw malformed(name, `line ${header.line}: there are more than ${tableLimits.columns} columns`);
  }
  // A sheet is a rectangle: cells at the end of a row that hold nothing are not in the file.
  const width = rows.reduce((widest, { cells }) => Math.max(widest, cells.length), 0);
  for (const { cells } of rows) while (cells.length < width) cells.push('');
  return {
    name,
    headerLine: header.line,
    header: header.cells,
    rows: body,
    format: { kind: 'spreadsheet', encoding: null, delimiter: null, sheet: reply.sheet },
    notes: reply.sheets === 1 ? [] : [`The file has ${reply.sheets} sheets; only "${reply.sheet}" was read.`],
    brokenOff: null,
  };
}

function toRow(
  line: number,
  given: readonly { column: number; text: string; type: CellType | 'text' }[],
): TableRow {
  const cells: string[] = [];
  const types = new Map<number, CellType>();
  for (const { column, text, type } of given) {
    if (column >= tableLimits.columns) continue;
    while (cells.length < column) cells.push('');
    cells.push(withoutTextMarker(text));
    if (type !== 'text') types.set(column, type);
  }
  return { line, cells, types };
}

/** Null when the thread ran out of memory or time. */
async function ask(request: SpreadsheetRequest): Promise<SpreadsheetReply | null> {
  const worker = new Worker(new URL('./spreadsheet-worker.ts', import.meta.url), {
    name: 'anneal-spreadsheet',
    resourceLimits: { maxOldGenerationSizeMb: maxMemoryMb },
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<SpreadsheetReply | null>((resolve, reject) => {
      timer = setTimeout(() => resolve(null), timeoutMs);
      worker.once('message', (message: unknown) => {
        const reply = spreadsheetReplySchema.safeParse(message);
        if (reply.success) resolve(reply.data);
        else reject(reply.error);
      });
      worker.once('error', (error: Error & { code?: string }) => {
        if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') resolve(null);
        else reject(error);
      });
      worker.once('exit', () => resolve(null));
      worker.postMessage(request);
    });
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}
