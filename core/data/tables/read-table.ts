/** One reader for all tables that a hospital has: text of several kinds, and spreadsheets. */
import { basename } from 'node:path';
import { AppError } from '../../shared/errors.ts';
import { readAtMost } from '../../store/atomic-file.ts';
import { parseDelimited } from './delimited-text.ts';
import { readSpreadsheet } from './spreadsheet.ts';
import { malformed, type ReadTableOptions, type Table, tableLimits } from './table.ts';
import { decodeText } from './text-encoding.ts';

/**
 * @throws AppError CSV_MISSING; CSV_MALFORMED naming the file and, where there is one, the line
 */
export async function readTable(file: string, options: ReadTableOptions = {}): Promise<Table> {
  const name = basename(file);
  return parseTable(await readBytes(file, name), name, options);
}

/** As {@link readTable}, for bytes that were read already; `name` is what messages call the file. */
export async function parseTable(
  bytes: Uint8Array,
  name: string,
  options: ReadTableOptions = {},
): Promise<Table> {
  if (isZip(bytes)) return readSpreadsheet(bytes, name, options);
  if (isCompoundFile(bytes)) {
    throw malformed(name, 'line 1: this is a spreadsheet of the old kind (.xls), or one with a password', {
      action: 'Save it as .xlsx without a password, or as "CSV UTF-8", and import it again.',
    });
  }
  if (options.sheet !== undefined) {
    throw malformed(name, 'line 1: this is a text file, so it has no sheets', {
      action: 'Leave out the name of the sheet.',
    });
  }
  return parseDelimited(decodeText(bytes, name, options), name);
}

const startsWith = (bytes: Uint8Array, ...first: number[]) => first.every((byte, at) => bytes[at] === byte);
const isZip = (bytes: Uint8Array) => startsWith(bytes, 0x50, 0x4b, 0x03, 0x04);
/** https://learn.microsoft.com/openspecs/windows_protocols/ms-cfb, section 2.2 */
const isCompoundFile = (bytes: Uint8Array) =>
  startsWith(bytes, 0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1);

async function readBytes(file: string, name: string): Promise<Uint8Array> {
  const missing = (cause?: unknown) =>
    new AppError('CSV_MISSING', `The CSV file "${name}" could not be read.`, { cause });
  const read = await readAtMost(file, tableLimits.textBytes).catch((cause: unknown) => {
    throw missing(cause);
  });
  if (read === 'not a file') throw missing();
  if (read === 'too large') throw new AppError('CSV_MALFORMED', `${name} is larger than 128 MB.`);
  return read;
}
