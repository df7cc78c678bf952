/** Writes a file so that a reader sees it whole or not at all. */
import { randomUUID } from 'node:crypto';
import { constants, link, open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../shared/errors.ts';

/** Pieces are written one after the other. */
export type FileContent = Uint8Array | string | Iterable<Uint8Array>;

/**
 * Temporary file beside the target, fsync, rename.
 * @param mode of the file
 * @throws the system's error, for instance ENOSPC
 */
export async function writeFileAtomically(file: string, content: FileContent, mode = 0o666): Promise<void> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    await writeSynced(temporary, content, mode);
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
}

async function writeSynced(file: string, content: FileContent, mode: number): Promise<void> {
  await using handle = await open(file, 'wx', mode);
  const isWhole = typeof content === 'string' || content instanceof Uint8Array;
  for (const piece of isWhole ? [content] : content) await handle.writeFile(piece);
  await handle.sync();
}

/** Of a name that a person gave, or of its folder. */
const faultsOfName: ReadonlySet<unknown> = new Set([
  ...['ENOENT', 'EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EISDIR', 'ENAMETOOLONG', 'EINVAL', 'ELOOP'],
]);

/**
 * Writes a file that a person named: whole or not at all, for its owner alone, and over nothing that is there.
 * @param mayReplace whether a file of this name may be replaced; absent where nobody can ask for that with --force
 * @throws AppError FILE_EXISTS; FILE_UNREADABLE when the folder cannot be written to; the system's error, for instance ENOSPC
 */
export async function writeNewFile(file: string, content: FileContent, mayReplace?: boolean): Promise<void> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    await writeSynced(temporary, content, 0o600);
    if (mayReplace === true) await rename(temporary, file);
    else await moveToNew(temporary, file);
    await rm(temporary, { force: true });
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST')
      throw new AppError('FILE_EXISTS', 'There is a file of that name already.', {
        ...(mayReplace === undefined ? { action: 'Choose another name, or move that file away first.' } : {}),
        cause: error,
      });
    if (faultsOfName.has(code)) {
      throw new AppError('FILE_UNREADABLE', 'The file cannot be written there.', {
        action: 'Check that the folder exists and that you may write to it.',
        cause: error,
      });
    }
    throw error;
  }
}

/**
 * Gives a finished file its name, unless that is taken: a link fails where it is, a rename would replace what is there.
 * The temporary name may stay. @throws the system's error, EEXIST for instance
 */
export async function moveToNew(temporary: string, file: string): Promise<void> {
  try {
    await link(temporary, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
    // Sticks of exFAT, and some shares, know no links: there an empty file takes the name before it is replaced.
    await (await open(file, 'wx', 0o600)).close();
    await rename(temporary, file).catch(async (cause) => {
      await rm(file, { force: true });
      throw cause;
    });
  }
}

/**
 * Reads a file, whatever its size says of it: one that grows meanwhile is read to its end.
 * @throws the system's error
 */
export async function readAtMost(
  file: string,
  maxBytes: number,
): Promise<Buffer | 'not a file' | 'too large'> {
  // A pipe that nobody writes to would be waited for.
  await using handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  const stat = await handle.stat();
  if (!stat.isFile()) return 'not a file';
  if (stat.size > maxBytes) return 'too large';
  // One byte more tells whether there is more.
  let buffer = Buffer.alloc(stat.size + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length);
    length += bytesRead;
    if (bytesRead === 0) return buffer.subarray(0, length);
    if (length > maxBytes) return 'too large';
    if (length === buffer.length) buffer = Buffer.concat([buffer], Math.min(2 * length, maxBytes + 1));
  }
}

/**
 * Reads a file that a person named.
 * @throws AppError FILE_UNREADABLE, also when it is larger than `maxBytes`
 */
export async function readNamedFile(file: string, maxBytes: number): Promise<Buffer> {
  const read = await readAtMost(file, maxBytes).catch((cause: unknown) => {
    throw new AppError('FILE_UNREADABLE', 'The file could not be read.', { cause });
  });
  if (read === 'not a file') throw new AppError('FILE_UNREADABLE', 'What has that name is not a file.');
  if (read !== 'too large') return read;
  throw new AppError('FILE_UNREADABLE', `The file is larger than ${Math.floor(maxBytes / 2 ** 20)} MB.`, {
    action: 'Divide it into several files.',
  });
}

/** Makes names in a folder last through a power cut; Windows does that by itself and knows no such call. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  await using handle = await open(folder, 'r');
  await handle.sync();
}

/** What a process that was killed in the middle of {@link writeFileAtomically} left beside the file. */
export async function deleteUnfinishedWrites(file: string): Promise<void> {
  const folder = path.dirname(file);
  const start = `${path.basename(file)}.`;
  for (const name of await readdir(folder)) {
    if (name.startsWith(start) && name.endsWith('.tmp')) await rm(path.join(folder, name), { force: true });
  }
}
