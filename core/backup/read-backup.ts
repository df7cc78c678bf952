/** Reads a backup from its first byte to its last; everything that is handed out has been proven. */
import { createHash } from 'node:crypto';
import { constants, type FileHandle, open } from 'node:fs/promises';
import { jsonText } from '../shared/text.ts';
import {
  type About,
  createRunningHash,
  type FileHead,
  foldersAbove,
  type Head,
  hashBytes,
  headSchema,
  lengthBytes,
  mostHeadBytes,
  orderOfKinds,
  placeOf,
} from './entries.ts';
import { headerBytes, type NewHeader, openHeader } from './header.ts';
import { chunkBytes, createSealedReader, type SealedReader } from './sealed-file.ts';
import { unreadable } from './unreadable.ts';

/** Takes the bytes of one file of a backup. */
export type TakeBytes = (bytes: Buffer) => Promise<void> | void;

export interface OpenBackup extends AsyncDisposable {
  readonly about: About;
  /** Of the whole file. */
  readonly sizeBytes: number;
  /** Bytes of it that were read so far. */
  readonly position: number;
  /**
   * All files, in order. `copy` must be called, and has ended, before the next one is asked for; it gives the SHA-256.
   * When the walk ends by itself, all of the backup was there.
   * @throws AppError BACKUP_UNREADABLE
   */
  files(): AsyncGenerator<BackupFile, void>;
  /** Of the database's files, those that were missing when the backup was made; complete after the walk. */
  readonly missing: ReadonlySet<string>;
}

export interface BackupFile {
  readonly head: FileHead;
  copy(take: TakeBytes): Promise<string>;
}

/**
 * @param secret the passphrase, or the header that this process has just written, of which it has the key
 * @throws AppError BACKUP_UNREADABLE | PASSPHRASE_WRONG
 */
export async function openBackup(file: string, secret: string | NewHeader): Promise<OpenBackup> {
  // A pipe that nobody writes to would be waited for.
  const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
  const handle = await open(file, flags).catch((cause) => {
    throw unreadable('The backup cannot be opened.', {
      action: 'Check the path of the file and that you may read it.',
      cause,
    });
  });
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw unreadable('What has that name is not a file.');
    const header = await readHeader(handle);
    const key = await (typeof secret === 'string' ? openHeader(header, secret) : sameHeader(header, secret));
    const reader = createSealedReader(handle, key, { start: headerBytes, size: stat.size });
    return await openEntries(handle, reader, stat.size);
  } catch (thrown) {
    await handle.close();
    throw thrown;
  }
}

function sameHeader(found: Buffer, { bytes, streamKey }: NewHeader): Buffer {
  if (found.equals(bytes)) return streamKey;
  throw unreadable('The first bytes of the backup are not those that were written.');
}

async function readHeader(handle: FileHandle): Promise<Buffer> {
  const { buffer, bytesRead } = await handle
    .read(Buffer.alloc(headerBytes), 0, headerBytes, 0)
    .catch((cause) => {
      throw unreadable('The disk cannot read the backup.', { cause });
    });
  return buffer.subarray(0, bytesRead);
}

const malformed = () => unreadable('The backup holds something that no version of Anneal writes.');

async function openEntries(handle: FileHandle, reader: SealedReader, size: number): Promise<OpenBackup> {
  const running = createRunningHash();
  const seen = new Set<string>();
  const folders = new Set<string>();
  const missing = new Set<string>();
  let entries = 0;
  let bytes = 0;
  let stage = 0;

  async function nextHead(): Promise<Head> {
    const length = (await reader.read(lengthBytes)).readUInt16BE(0);
    if (length > mostHeadBytes) throw malformed();
    const json = await reader.read(length);
    const parsed = jsonText.pipe(headSchema).safeParse(json.toString('utf8'));
    if (!parsed.success) throw malformed();
    const head = parsed.data;
    const place = orderOfKinds.indexOf(head.kind);
    const mayRepeat = ['key', 'blob', 'missing', 'model'].includes(head.kind);
    if (place < stage || (place === stage && entries > 0 && !mayRepeat)) throw malformed();
    // Every backup has what it says of itself, a database and an end.
    if (stage < 1 && place > 1) throw malformed();
    stage = place;
    if (head.kind !== 'end') running.update(json);
    return head;
  }

  const first = await nextHead();
  if (first.kind !== 'about') throw malformed();
  const about = first;
  entries += 1;

  async function copyFile(head: FileHead, take: TakeBytes): Promise<string> {
    const digest = createHash('sha256');
    for (let left = head.size; left > 0; ) {
      const part = await reader.readSome(Math.min(left, chunkBytes));
      left -= part.length;
      digest.update(part);
      await take(part);
    }
    const sha256 = digest.digest();
    const said = await reader.read(hashBytes);
    if (!said.equals(sha256)) throw unreadable('A file in the backup is not the one that was put into it.');
    const hex = sha256.toString('hex');
    if (head.kind === 'blob' && head.sha256 !== hex)
      throw unreadable('A file in the backup is not the one that its name tells.');
    running.update(sha256);
    entries += 1;
    bytes += head.size;
    return hex;
  }

  async function* files(): AsyncGenerator<BackupFile, void> {
    let count = 0;
    for (;;) {
      const head = await nextHead();
      if (head.kind === 'about') throw malformed();
      if (head.kind === 'end') {
        const isWhole = head.entries === entries && head.files === count && head.bytes === bytes;
        if (!isWhole || head.sha256 !== running.digest('hex') || !(await reader.isAtEnd())) throw malformed();
        return;
      }
      if (head.kind === 'missing') {
        entries += 1;
        missing.add(head.sha256);
        continue;
      }
      const place = placeOf(head);
      const above = foldersAbove(head);
      if (seen.has(place) || folders.has(place) || above.some((folder) => seen.has(folder)))
        throw malformed();
      seen.add(place);
      for (const folder of above) folders.add(folder);
      const before = entries;
      count += 1;
      yield { head, copy: (take) => copyFile(head, take) };
      if (entries !== before + 1) throw new TypeError('the bytes of a file were not taken');
    }
  }

  return {
    about,
    sizeBytes: size,
    get position() {
      return reader.position;
    },
    files,
    missing,
    [Symbol.asyncDispose]: () => handle.close(),
  };
}
