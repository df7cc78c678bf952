/**
 * A blob under way: a data file of the full size, and a journal with one byte per chunk that says what arrived.
 *
 * A chunk's journal byte is written after its data, so a killed process at most fetches a chunk again. After a power
 * cut the disk may hold the byte without the data; `complete` finds that by the hash, and the transfer starts anew.
 */
import { existsSync } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import type { PartialBlob } from './blob-store.ts';
import { onDisk } from './disk-errors.ts';

const magic = 0x414e4231; // ANB1
const headerBytes = 16;

export interface PartialBlobOptions {
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly dataFile: string;
  readonly journalFile: string;
  /** Whether data must be on the disk when the blob is complete. */
  readonly flush: boolean;
  /** Whether the whole blob is in its place. */
  isComplete(): boolean;
  /** Verifies the data file and moves it into place. */
  finish(dataFile: string): Promise<void>;
}

/** @throws AppError BLOB_CORRUPT for impossible sizes */
export async function openPartialBlob(options: PartialBlobOptions): Promise<PartialBlob> {
  const { sizeBytes, chunkBytes } = options;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || !isChunkSize(chunkBytes)) {
    throw new AppError('BLOB_CORRUPT', 'The announced size of the blob is impossible.');
  }
  const chunks = Math.ceil(sizeBytes / chunkBytes);
  if (options.isComplete()) return finishedBlob(chunks);
  const arrived = (await readJournal(options, chunks)) ?? (await startJournal(options, chunks));
  const data = await open(options.dataFile, 'r+');
  const journal = await open(options.journalFile, 'r+');
  return createPartialBlob(options, arrived, { data, journal });
}

/** Forgets what arrived. */
async function removePartial(dataFile: string, journalFile: string): Promise<void> {
  // The journal first: data without a journal is simply overwritten.
  await rm(journalFile, { force: true });
  await rm(dataFile, { force: true });
}

function isChunkSize(chunkBytes: number): boolean {
  return Number.isSafeInteger(chunkBytes) && chunkBytes >= 1 && chunkBytes <= 0xffffffff;
}

function createPartialBlob(
  options: PartialBlobOptions,
  arrived: Uint8Array,
  files: { data: FileHandle; journal: FileHandle },
): PartialBlob {
  const { sizeBytes, chunkBytes, flush } = options;
  let isOpen = true;
  const close = async () => {
    if (!isOpen) return;
    isOpen = false;
    try {
      if (flush) await files.data.sync();
    } finally {
      await files.data.close();
      await files.journal.close();
    }
  };
  const missing = () => [...arrived.keys()].filter((index) => arrived[index] === 0);
  return {
    chunks: arrived.length,
    missing,
    async write(index, bytes) {
      const expected = Math.min(chunkBytes, sizeBytes - index * chunkBytes);
      if (!Number.isInteger(index) || index < 0 || index >= arrived.length || bytes.length !== expected) {
        throw new AppError('BLOB_CORRUPT', `Chunk ${index} of the blob has a wrong length or number.`);
      }
      if (arrived[index] === 1) return;
      await onDisk(async () => {
        await writeFully(files.data, bytes, index * chunkBytes);
        await writeFully(files.journal, Uint8Array.of(1), headerBytes + index);
      });
      arrived[index] = 1;
    },
    async complete() {
      const left = missing().length;
      if (left > 0)
        throw new AppError('BLOB_CORRUPT', `${plural(left, 'chunk')} of the blob did not arrive.`);
      await onDisk(() => close());
      if (!options.isComplete()) await finishOrThrowAway(options);
      await removePartial(options.dataFile, options.journalFile);
    },
    suspend: () => onDisk(() => close()),
  };
}

async function finishOrThrowAway(options: PartialBlobOptions): Promise<void> {
  try {
    await onDisk(() => options.finish(options.dataFile));
  } catch (thrown) {
    if (thrown instanceof AppError && thrown.code === 'BLOB_CORRUPT') {
      await removePartial(options.dataFile, options.journalFile);
    }
    throw thrown;
  }
}

/** Some systems write less than asked when the disk runs full; the next call then tells. */
async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const done = await file.write(bytes, written, bytes.length - written, position + written);
    written += done.bytesWritten;
  }
}

/** What arrived in an earlier life; null when there is nothing, or it was cut differently. */
async function readJournal(options: PartialBlobOptions, chunks: number): Promise<Uint8Array | null> {
  if (!existsSync(options.journalFile) || !existsSync(options.dataFile)) return null;
  const journal = await readFile(options.journalFile);
  const fits =
    journal.length === headerBytes + chunks && journal.subarray(0, headerBytes).equals(header(options));
  return fits ? Uint8Array.from(journal.subarray(headerBytes), (byte) => (byte === 1 ? 1 : 0)) : null;
}

async function startJournal(options: PartialBlobOptions, chunks: number): Promise<Uint8Array> {
  await removePartial(options.dataFile, options.journalFile);
  const data = await open(options.dataFile, 'w', 0o600);
  try {
    await data.truncate(options.sizeBytes);
  } finally {
    await data.close();
  }
  // Renamed into place whole, so that a journal is either right or not there.
  const temporary = `${options.journalFile}.tmp`;
  const journal = await open(temporary, 'w', 0o600);
  try {
    await journal.writeFile(Buffer.concat([header(options), Buffer.alloc(chunks)]));
  } finally {
    await journal.close();
  }
  await rename(temporary, options.journalFile);
  return new Uint8Array(chunks);
}

function header({ sizeBytes, chunkBytes }: PartialBlobOptions): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt32BE(chunkBytes, 4);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 8);
  return bytes;
}

/** For a blob that is in its place already. */
function finishedBlob(chunks: number): PartialBlob {
  return {
    chunks,
    missing: () => [],
    write: async () => undefined,
    complete: async () => undefined,
    suspend: async () => undefined,
  };
}
