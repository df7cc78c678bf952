/** Writes a file so that a reader sees it whole or not at all. */
import { randomUUID } from 'node:crypto';
import { open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';

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
