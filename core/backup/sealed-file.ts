/**
 * An encrypted file that is written and read as a stream: chunks of 256 KiB, each sealed with AES-256-GCM under a nonce of
 * its number and a mark of the last one (the STREAM construction: Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015). So a
 * chunk that is changed, missing, repeated or in another place does not open, nor does a file whose end was cut off.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { unreadable } from './unreadable.ts';

const algorithm = 'aes-256-gcm';
export const chunkBytes = 256 * 1024;
const tagBytes = 16;
const sealedBytes = chunkBytes + tagBytes;

/** The key is of this file alone, so the nonce need only differ from chunk to chunk. */
function nonceOf(chunk: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(chunk, 7);
  nonce[11] = isLast ? 1 : 0;
  return nonce;
}

function seal(key: Uint8Array, plain: Uint8Array, chunk: number, isLast: boolean): Buffer {
  const cipher = createCipheriv(algorithm, key, nonceOf(chunk, isLast), { authTagLength: tagBytes });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** Null when it does not open. */
function open(key: Uint8Array, sealed: Buffer, chunk: number, isLast: boolean): Buffer | null {
  const decipher = createDecipheriv(algorithm, key, nonceOf(chunk, isLast), { authTagLength: tagBytes });
  const end = sealed.length - tagBytes;
  decipher.setAuthTag(sealed.subarray(end));
  const plain = decipher.update(sealed.subarray(0, end));
  try {
    return Buffer.concat([plain, decipher.final()]);
  } catch {
    return null;
  }
}

export interface SealedWriter {
  write(bytes: Uint8Array): Promise<void>;
  /** Writes the last chunk; the file is not synced. */
  finish(): Promise<void>;
}

/** @param handle at the place where the first chunk goes @throws the system's error, for instance ENOSPC */
export function createSealedWriter(handle: Pick<FileHandle, 'writeFile'>, key: Uint8Array): SealedWriter {
  const waiting = Buffer.alloc(chunkBytes);
  let filled = 0;
  let chunk = 0;
  // `writeFile` of a handle goes on from where it is, and writes all of it.
  const flush = (isLast: boolean) =>
    handle.writeFile(seal(key, waiting.subarray(0, filled), chunk++, isLast));
  return {
    async write(bytes) {
      for (let at = 0; at < bytes.length; ) {
        // Only when more comes is it known that a full chunk is not the last one.
        if (filled === chunkBytes) {
          await flush(false);
          filled = 0;
        }
        const part = bytes.subarray(at, at + chunkBytes - filled);
        waiting.set(part, filled);
        filled += part.length;
        at += part.length;
      }
    },
    finish: () => flush(true),
  };
}

export interface SealedReader {
  /** The next bytes, exactly so many. @throws AppError BACKUP_UNREADABLE, also when fewer are left */
  read(length: number): Promise<Buffer>;
  /** The next bytes, at least one and at most so many. @throws AppError BACKUP_UNREADABLE */
  readSome(most: number): Promise<Buffer>;
  /** Whether nothing is left. */
  isAtEnd(): Promise<boolean>;
  /** Bytes of the file read so far. */
  readonly position: number;
}

/**
 * Nothing is handed out before its chunk is proven.
 * @param start where the first chunk is @param size of the whole file
 */
export function createSealedReader(
  handle: Pick<FileHandle, 'read'>,
  key: Uint8Array,
  { start, size }: { start: number; size: number },
): SealedReader {
  const chunks = Math.ceil((size - start) / sealedBytes);
  let chunk = 0;
  let plain: Buffer = Buffer.alloc(0);
  const damaged = (at: number) =>
    unreadable(`The backup is damaged ${Math.floor((100 * at) / size)} % of the way through.`);

  async function openNext(): Promise<void> {
    const at = start + chunk * sealedBytes;
    const isLast = chunk === chunks - 1;
    const sealed = Buffer.alloc(Math.min(sealedBytes, size - at));
    for (let done = 0; done < sealed.length; ) {
      const { bytesRead } = await handle
        .read(sealed, done, sealed.length - done, at + done)
        .catch((cause) => {
          throw unreadable('The disk cannot read the whole backup.', { cause });
        });
      if (bytesRead === 0) throw unreadable('The backup became shorter while it was being read.');
      done += bytesRead;
    }
    if (sealed.length <= tagBytes) throw cutOff();
    const opened = open(key, sealed, chunk, isLast);
    if (opened === null) throw isLast && open(key, sealed, chunk, false) !== null ? cutOff() : damaged(at);
    plain = opened;
    chunk += 1;
  }

  async function readSome(most: number): Promise<Buffer> {
    if (plain.length === 0) {
      if (chunk >= chunks) throw unreadable('The backup ends too early.');
      await openNext();
    }
    const part = plain.subarray(0, most);
    plain = plain.subarray(part.length);
    return part;
  }

  return {
    readSome,
    async read(length) {
      const parts: Buffer[] = [];
      for (let left = length; left > 0; ) {
        const part = await readSome(left);
        parts.push(part);
        left -= part.length;
      }
      return Buffer.concat(parts);
    },
    isAtEnd: async () => plain.length === 0 && chunk >= chunks,
    get position() {
      return Math.min(size, start + chunk * sealedBytes);
    },
  };
}

const cutOff = () => unreadable('The backup is cut off: its end is missing.');
