/** The data folder: where one Anneal keeps everything, and the lock that keeps a second Anneal out. */
import { randomUUID } from 'node:crypto';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { AppError, toAppError } from '../shared/errors.ts';
import type { BlobStore } from './blob-store.ts';
import { createBlobStore } from './blobs.ts';
import { makeFolder } from './make-folder.ts';
import { createReserve, type Reserve } from './reserve.ts';
import { openSqlite, type Sqlite } from './sqlite.ts';

export interface DataFolder {
  readonly dir: string;
  readonly dbFile: string;
  readonly blobs: BlobStore;
  readonly logsDir: string;
  /** Aligned crops of photographs; never leaves the site. */
  readonly cropsDir: string;
  readonly trainingDir: string;
  readonly keysDir: string;
  /** Imported base models, one folder each. */
  readonly modelsDir: string;
  /** Room for withdrawals on a full disk. */
  readonly reserve: Reserve;
}

export interface DataFolderLock {
  release(): void;
}

/** Makes the folder (mode 0700) and its sub-folders where missing. @throws AppError DATA_FOLDER_UNUSABLE | DISK_FULL */
export function openDataFolder(dir: string): DataFolder {
  const root = path.resolve(dir);
  const folders = {
    logsDir: path.join(root, 'logs'),
    cropsDir: path.join(root, 'crops'),
    trainingDir: path.join(root, 'training'),
    keysDir: path.join(root, 'keys'),
    modelsDir: path.join(root, 'models'),
  };
  const reserve = createReserve(root);
  const prepare = () => {
    for (const folder of [root, ...Object.values(folders)]) {
      makeFolder(folder, { mode: 0o700 });
    }
    // The root keeps the rights that its owner gave it; keys are for this account alone in any case.
    chmodSync(folders.keysDir, 0o700);
    const probe = path.join(root, `${randomUUID()}.probe`);
    writeFileSync(probe, 'Anneal was here');
    rmSync(probe);
  };
  usable(() => {
    try {
      prepare();
    } catch (thrown) {
      // On a full disk Anneal starts all the same: withdrawals must be possible.
      if (toAppError(thrown).code !== 'DISK_FULL' || !reserve.release()) throw thrown;
      prepare();
    }
  });
  return {
    dir: root,
    dbFile: path.join(root, 'anneal.db'),
    blobs: createBlobStore(path.join(root, 'blobs')),
    ...folders,
    reserve,
  };
}

/** Locks held by this process. A connection that nobody refers to would be closed by the garbage collector. */
const held = new Set<Sqlite>();

/**
 * One Anneal per data folder. The lock is an exclusive SQLite transaction on an empty file, that is, a lock of the
 * operating system: it ends with the process however that ends, and unlike a pid file it is never stale.
 * @throws AppError DATA_FOLDER_IN_USE | DATA_FOLDER_UNUSABLE
 */
export function lockDataFolder(dir: string): DataFolderLock {
  const root = path.resolve(dir);
  usable(() => makeFolder(root, { mode: 0o700 }));
  const db = openSqlite(path.join(root, 'anneal.lock'), { busyTimeoutMs: 200 });
  try {
    db.exec('BEGIN EXCLUSIVE');
  } catch (thrown) {
    db.close();
    if (thrown instanceof AppError && thrown.code === 'DATABASE_BUSY') {
      throw new AppError('DATA_FOLDER_IN_USE', 'This data folder is in use.', { cause: thrown });
    }
    throw thrown;
  }
  held.add(db);
  return {
    release() {
      if (!held.delete(db)) return;
      db.close();
    },
  };
}

function usable(work: () => void): void {
  try {
    work();
  } catch (thrown) {
    const error = toAppError(thrown);
    if (error.code === 'DISK_FULL') throw error;
    throw new AppError('DATA_FOLDER_UNUSABLE', 'The data folder cannot be created or written to.', {
      cause: thrown,
    });
  }
}
