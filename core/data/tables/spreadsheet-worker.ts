/**
 * Worker thread: reads one sheet of an .xlsx file. A thread of its own with a bound on its memory, since a small file can
 * name a cell a million rows down.
 */
import { parentPort } from 'node:worker_threads';
import { readSheet } from 'read-excel-file/universal';
import yauzl from 'yauzl';
import {
  type SpreadsheetReply,
  type SpreadsheetRequest,
  spreadsheetRequestSchema,
} from './spreadsheet-protocol.ts';
import { tableLimits } from './table.ts';

class TooLarge extends Error {}

const refused = (why: 'no such sheet' | 'too large' | 'unreadable', sheets: string[] = []) =>
  ({ kind: 'refused', why, sheets }) as const;

async function answer({ bytes, sheet }: SpreadsheetRequest): Promise<SpreadsheetReply> {
  try {
    await checkUnpackedSize(bytes);
    const input = bytes.slice().buffer;
    const sheets = await sheetNames(input);
    const name = sheet ?? sheets[0];
    if (name === undefined || !sheets.includes(name)) return refused('no such sheet', sheets);
    // Numbers as they are written: 00457 typed as text stays text, and 1.23E8 is seen to be what it is.
    const rows = await readSheet(input, name, { trim: false, parseNumber: (text) => ({ number: text }) });
    if (rows.length > tableLimits.rows) return refused('too large', sheets);
    return {
      kind: 'rows',
      sheet: name,
      sheets: sheets.length,
      rows: rows.map((cells, index) => ({ line: index + 1, cells: cells.flatMap(describeCell) })),
    };
  } catch (error) {
    return refused(error instanceof TooLarge ? 'too large' : 'unreadable');
  }
}

/** The library names them where it is asked for a sheet that is not there; it reads no sheet for that. */
async function sheetNames(input: ArrayBuffer): Promise<string[]> {
  try {
    await readSheet(input, '\u0000');
    return [];
  } catch (error) {
    const { sheets } = error as { sheets?: unknown };
    if (Array.isArray(sheets)) return sheets.map(String);
    throw error;
  }
}

type Cell = Extract<SpreadsheetReply, { kind: 'rows' }>['rows'][number]['cells'][number];

function describeCell(value: unknown, column: number): Cell[] {
  if (value === null || value === undefined || value === '') return [];
  if (value instanceof Date) return [{ column, text: dateText(value), type: 'date' }];
  if (typeof value === 'boolean') return [{ column, text: String(value), type: 'text' }];
  if (typeof value === 'string') {
    return [{ column, text: value, type: /^#[A-Z/0-9]+[!?]?$/.test(value) ? 'error' : 'text' }];
  }
  return [{ column, text: (value as { number: string }).number, type: 'number' }];
}

/** Spreadsheets know local times only: a date, or a date-time without offset. */
function dateText(value: Date): string {
  if (Number.isNaN(value.getTime())) return '#VALUE!';
  const text = value.toISOString();
  return text.endsWith('T00:00:00.000Z') ? text.slice(0, 10) : text.slice(0, 19);
}

/** What is unpacked is counted, whatever the file says of itself; entries that overlap or lie are refused by yauzl. */
async function checkUnpackedSize(bytes: Uint8Array): Promise<void> {
  const zip = await yauzl.fromBufferPromise(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), {
    lazyEntries: true,
  });
  let unpacked = 0;
  let entries = 0;
  for await (const entry of zip.eachEntry()) {
    entries += 1;
    if (entries > 10_000) throw new TooLarge();
    if (!/\.xml(\.rels)?$/.test(entry.fileName)) continue;
    for await (const chunk of await zip.openReadStreamPromise(entry)) {
      unpacked += (chunk as Buffer).length;
      if (unpacked > tableLimits.unpackedBytes) throw new TooLarge();
    }
  }
}

const port = parentPort!;
port.once('message', (message: unknown) => {
  void answer(spreadsheetRequestSchema.parse(message)).then((reply) => {
    port.postMessage(reply);
    port.close();
  });
});
