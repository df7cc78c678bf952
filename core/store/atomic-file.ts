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
 * The same for a file that must not be there yet.
 * @throws AppError CONFIG_INVALID when it is
 */
export async function writeNewFile(file: string, content: Uint8Array | string, mode = 0o600): Promise<void> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    {
      await using handle = await open(temporary, 'wx', mode);
      await handle.writeFile(content);
      await handle.sync();
    }
    // Unlike a rename it fails when somebody was faster.
    await link(temporary, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new AppError('CONFIG_INVALID', `The file "${path.basename(file)}" is there already.`, {
      action: 'Choose another folder or name, or move the old file away.',
    });
  } finally {
    await rm(temporary, { force: true });
  }
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
