/**
 * Puts a backup into a new data folder. All of it is written beside that folder first, and checked; only then it gets the
 * folder's name, in one step.
 */
import { randomUUID } from 'node:crypto';
import { lstat, mkdir, open, readdir, realpath, rename, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { createEraser } from '../rights/erase.ts';
import { subjectsToErase, type Tombstone } from '../rights/erasure-list.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { syncFolder } from '../store/atomic-file.ts';
import { type DataFolder, lockDataFolder, openDataFolder } from '../store/data-folder.ts';
import { freeBytes } from '../store/free-space.ts';
import { openStore } from '../store/store.ts';
import type { About, FileHead } from './entries.ts';
import { recordRestore } from './known-backups.ts';
import { checkCancelled, type Steps } from './progress.ts';
import { type OpenBackup, openBackup } from './read-backup.ts';
import { checkContents, requireKnown } from './verify-backup.ts';

export interface RestoreOptions extends Steps {
  readonly file: string;
  readonly passphrase: string;
  /** Not there yet, or empty. */
  readonly dataFolder: string;
  /** Erasures that came after the backup, as far as they are known. */
  readonly erasures: readonly Tombstone[];
  readonly actor: string;
  readonly logger: Logger;
}

export interface Restored {
  readonly about: About;
  readonly files: number;
  /** Files that were missing or damaged already when the backup was made. */
  readonly missing: number;
  /** How many subjects were erased again. */
  readonly erased: number;
}

/**
 * @throws AppError DATA_FOLDER_NOT_EMPTY | BACKUP_UNREADABLE | PASSPHRASE_WRONG | DATABASE_NEWER | DISK_FULL |
 *   DATA_FOLDER_UNUSABLE | CANCELLED. Nothing is left then.
 */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
  const target = await emptyPlace(options.dataFolder);
  await using backup = await openBackup(options.file, options.passphrase);
  requireKnown(backup.about);
  const temporary = `${target}.${randomUUID()}${ending}`;
  try {
    await mkdir(path.dirname(target), { recursive: true });
    await sweepAbandoned(target);
    await checkSpace(path.dirname(target), backup.sizeBytes);
    await mkdir(temporary, { mode: 0o700 });
    const restored = await fill(temporary, backup, options);
    await putInPlace(temporary, target);
    return restored;
  } catch (thrown) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw inWords(thrown);
  }
}

/** @returns the folder's real path @throws AppError DATA_FOLDER_NOT_EMPTY */
async function emptyPlace(folder: string): Promise<string> {
  const target = await realpath(folder).catch(() => path.resolve(folder));
  const stat = await lstat(target).catch(() => null);
  if (stat === null) return target;
  const isEmpty = stat.isDirectory() && (await readdir(target)).length === 0;
  if (!isEmpty)
    throw new AppError(
      'DATA_FOLDER_NOT_EMPTY',
      'A backup is never restored over a data folder that holds something.',
    );
  return target;
}

const ending = '.restoring';

/** What restores of the same folder left that were killed. */
async function sweepAbandoned(target: string): Promise<void> {
  const parent = path.dirname(target);
  const start = `${path.basename(target)}.`;
  for (const name of await readdir(parent)) {
    const id = name.slice(start.length, -ending.length);
    if (!name.startsWith(start) || !name.endsWith(ending) || !/^[0-9a-f-]{36}$/.test(id)) continue;
    const left = path.join(parent, name);
    try {
      // One that is under way holds its lock.
      lockDataFolder(left).release();
    } catch {
      continue;
    }
    await rm(left, { recursive: true, force: true });
  }
}

async function checkSpace(folder: string, bytes: number): Promise<void> {
  if (bytes > (await freeBytes(folder)))
    throw new AppError('DISK_FULL', 'The disk of the data folder has no room for what is in the backup.', {
      action: 'Free some space, or restore to another disk with --data. Nothing was left there.',
    });
}

/** With the lock of the folder, which ends with this function or with the process. */
async function fill(temporary: string, backup: OpenBackup, options: RestoreOptions): Promise<Restored> {
  const lock = lockDataFolder(temporary);
  try {
    const data = openDataFolder(temporary);
    const { files, blobs } = await unpack(backup, data, options);
    await checkContents(data.dbFile, backup, blobs);
    const erased = await settle(data, backup.about, options);
    checkCancelled(options, 'restore');
    await syncFolder(temporary);
    return { about: backup.about, files, missing: backup.missing.size, erased };
  } finally {
    lock.release();
  }
}

/** Where a file belongs; names were checked when they were read. */
function placeFor(data: DataFolder, head: FileHead): string {
  switch (head.kind) {
    case 'database':
      return data.dbFile;
    case 'key':
      return path.join(data.keysDir, head.name);
    case 'blob':
      return path.join(data.dir, 'blobs', head.sha256.slice(0, 2), head.sha256);
    case 'model':
      return path.join(data.modelsDir, head.model, ...head.file.split('/'));
  }
}

async function unpack(
  backup: OpenBackup,
  data: DataFolder,
  options: RestoreOptions,
): Promise<{ files: number; blobs: Set<string> }> {
  const folders = new Set<string>();
  const blobs = new Set<string>();
  let files = 0;
  for await (const { head, copy } of backup.files()) {
    const file = placeFor(data, head);
    if (head.kind === 'blob') blobs.add(head.sha256);
    await makeFolders(path.dirname(file), data.dir, folders);
    // Never over a file that is there, whatever a backup says.
    await using handle = await open(file, 'wx', 0o600);
    await copy(async (piece) => {
      checkCancelled(options, 'restore');
      await handle.writeFile(piece);
      options.onProgress?.({ phase: 'copying', doneBytes: backup.position, totalBytes: backup.sizeBytes });
    });
    await handle.sync();
    files += 1;
  }
  for (const folder of folders) await syncFolder(folder);
  return { files, blobs };
}

async function makeFolders(folder: string, root: string, known: Set<string>): Promise<void> {
  if (known.has(folder)) return;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (let each = folder; each !== root && !known.has(each); each = path.dirname(each)) known.add(each);
}

/** Marks the store and erases again who was erased since. @returns how many that were */
async function settle(
  data: DataFolder,
  about: About,
  { erasures, actor, logger }: RestoreOptions,
): Promise<number> {
  const store = openStore(data.dbFile);
  try {
    const again = subjectsToErase(store, erasures, about.madeAt);
    const eraser = createEraser({
      ...{ store, blobs: data.blobs, logger, logsFolder: data.logsDir },
      workFolder: path.join(data.trainingDir, 'work'),
      site: () => null,
    });
    // Before anything is put in place: who was erased is in no data folder that is used.
    for (const pseudonym of again) await eraser.erase(pseudonym, actor);
    recordRestore(store, about, { actor, erased: again.length });
    return again.length;
  } finally {
    store.close();
  }
}

async function putInPlace(temporary: string, target: string): Promise<void> {
  await rm(path.join(temporary, 'anneal.lock'), { force: true });
  await rmdir(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  await rename(temporary, target);
  await syncFolder(path.dirname(target));
}

function inWords(thrown: unknown): AppError {
  const error = toAppError(thrown);
  const { code } = thrown as NodeJS.ErrnoException;
  if (error.code === 'DISK_FULL')
    return new AppError(
      'DISK_FULL',
      'The disk of the data folder became full while the backup was restored.',
      {
        action: 'Free some space, or restore to another disk with --data. Nothing was left there.',
        cause: thrown,
      },
    );
  if (code === 'EBUSY' || code === 'EXDEV')
    return new AppError('DATA_FOLDER_UNUSABLE', 'The data folder is a disk or share of its own.', {
      action: 'Restore into a new folder on it with --data, and give that folder to Anneal from now on.',
      cause: thrown,
    });
  if (code === 'ENOTEMPTY' || code === 'EEXIST')
    return new AppError(
      'DATA_FOLDER_NOT_EMPTY',
      'Something else wrote into the data folder while it was restored.',
      {
        cause: thrown,
      },
    );
  if (['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'ENAMETOOLONG'].includes(String(code)))
    return new AppError('DATA_FOLDER_UNUSABLE', 'The data folder cannot be made or written to.', {
      cause: thrown,
    });
  return error;
}
