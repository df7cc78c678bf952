/** Writes a file so that a reader sees it whole or not at all. */
import { randomUUID } from 'node:crypto';
import { link, open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../shared/errors.ts';

/**
 * Temporary file beside the target, fsync, rename.
 * @param mode of the file
 * @throws the system's error, for instance ENOSPC
 */
export async function writeFileAtomically(
  file: string,
  content: Uint8Array | string,
  mode = 0o666,
): Promise<void> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    {
      await using handle = await open(temporary, 'wx', mode);
      await handle.writeFile(content);
      await handle.sync();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/**
 * Writes a file that a person named: whole or not at all, for its owner alone, and over nothing that is there.
 * @param mayReplace whether a file of this name may be replaced
 * @throws AppError FILE_EXISTS; FILE_UNREADABLE when the folder cannot be written to; the system's error, for instance ENOSPC
 */
export async function writeNewFile(
  file: string,
  content: Uint8Array | string,
  mayReplace: boolean,
): Promise<void> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    await writeFileAtomically(temporary, content, 0o600);
    // A link fails where a name is taken; a rename would replace it.
    if (mayReplace) await rename(temporary, file);
    else await link(temporary, file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST')
      throw new AppError('FILE_EXISTS', 'There is a file of that name already.', { cause: error });
    if (['ENOENT', 'EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EISDIR'].includes(String(code))) {
      throw new AppError('FILE_UNREADABLE', 'The file cannot be written there.', {
        action: 'Check that the folder exists and that you may write to it.',
        cause: error,
      });
    }
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

/**
 * Reads a file that a person named.
 * @throws AppError FILE_UNREADABLE, also when it is larger than `maxBytes`
 */
export async function readNamedFile(file: string, maxBytes: number): Promise<Buffer> {
  try {
    await using handle = await open(file, 'r');
    const { size } = await handle.stat();
    if (size <= maxBytes) return await handle.readFile();
  } catch (error) {
    throw new AppError('FILE_UNREADABLE', 'The file could not be read.', { cause: error });
  }
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
