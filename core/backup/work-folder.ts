/**
 * Where a copy of the database lies for the time of a backup: in the data folder, never beside the backup, which may be on
 * a stick; the copy is not encrypted.
 */
import { randomUUID } from 'node:crypto';
import { readdirSync, rmSync } from 'node:fs';
import { mkdir, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';

const name = 'backup';

export interface WorkFolder extends AsyncDisposable {
  readonly dir: string;
}

/** @param root an existing folder: the data folder, or another that only this account can read */
export async function openWorkFolder(root: string): Promise<WorkFolder> {
  const dir = path.join(root, name, randomUUID());
  await mkdir(dir, { recursive: true, mode: 0o700 });
  return {
    dir,
    async [Symbol.asyncDispose]() {
      await rm(dir, { recursive: true, force: true });
      // Another one may be at work.
      await rmdir(path.dirname(dir)).catch(() => {});
    },
  };
}

/** What a process that was killed left there. Call it at the start, with the lock of the data folder. */
export function emptyWorkFolder(root: string): void {
  const folder = path.join(root, name);
  try {
    for (const left of readdirSync(folder)) rmSync(path.join(folder, left), { recursive: true, force: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
