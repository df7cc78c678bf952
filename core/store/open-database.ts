/** Opening the database file: nothing is written before it is known to be Anneal's, whole, and not newer. */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { AppError } from '../shared/errors.ts';
import { databaseVersion, type Migration, migrate, migrations, newerDatabase } from './migrations.ts';
import { openSqlite, type Sqlite } from './sqlite.ts';

/**
 * What a commit outlives. `process`: the end of this process, not a power cut, which may undo the last commits; for
 * what can be computed again, such as a simulation.
 */
export type Durability = 'power-cut' | 'process';

/** @throws AppError DATABASE_NEWER | DATABASE_DAMAGED | DISK_FULL | DATA_FOLDER_UNUSABLE */
export function openDatabase(
  file: string,
  steps: readonly Migration[] = migrations,
  durability: Durability = 'power-cut',
): Sqlite {
  checkUntouched(file, steps.length);
  const db = openSqlite(file);
  try {
    checkWhole(db);
    // WAL: readers in other processes do not wait for the writer, and a commit is one sequential write.
    db.pragma('journal_mode = WAL');
    // FULL, although WAL would stay whole with NORMAL: NORMAL may lose the last commits when power fails, and a
    // consent withdrawal that was confirmed, or the mark of a message that was handled, must not come undone.
    // The price is one fsync per transaction; rounds take minutes.
    db.pragma(`synchronous = ${durability === 'power-cut' ? 'FULL' : 'NORMAL'}`);
    // INSERT OR REPLACE deletes rows, and fires the triggers of append-only tables only with this.
    db.pragma('recursive_triggers = ON');
    db.pragma('trusted_schema = OFF');
    // What was deleted must not stay readable in the file, nor in a temporary one of VACUUM.
    db.pragma('secure_delete = ON');
    db.pragma('temp_store = MEMORY');
    migrate(db, steps);
    return remember(file, db);
  } catch (thrown) {
    db.close();
    throw thrown;
  }
}

/** @throws AppError NOT_FOUND | DATABASE_NEWER | DATABASE_DAMAGED | DATA_FOLDER_UNUSABLE */
export function openDatabaseReadOnly(file: string): Sqlite {
  if (!existsSync(file)) throw new AppError('NOT_FOUND', 'There is no Anneal database in this data folder.');
  checkUntouched(file, databaseVersion);
  const db = openSqlite(file, { readOnly: true });
  try {
    const version = Number(db.pragma('user_version'));
    if (version > databaseVersion) throw newerDatabase(version, databaseVersion);
    if (version < databaseVersion) {
      throw new AppError(
        'DATA_FOLDER_UNUSABLE',
        'The database was written by an older Anneal. Start this Anneal once on the data folder.',
      );
    }
    return remember(file, db);
  } catch (thrown) {
    db.close();
    throw thrown;
  }
}

/**
 * Databases that this process has open, by device and inode. Their files must not be opened here: closing a file
 * drops all POSIX locks that the process holds on it (https://www.sqlite.org/howtocorrupt.html section 2.2).
 */
const openHere = new Map<string, number>();

function remember(file: string, db: Sqlite): Sqlite {
  const { dev, ino } = statSync(file, { bigint: true });
  const key = `${dev}:${ino}`;
  openHere.set(key, (openHere.get(key) ?? 0) + 1);
  let isOpen = true;
  return {
    ...db,
    get inTransaction() {
      return db.inTransaction;
    },
    close() {
      db.close();
      if (!isOpen) return;
      isOpen = false;
      openHere.set(key, openHere.get(key)! - 1);
    },
  };
}

/** Reads the version from the file's header: SQLite itself would already leave files beside the database. */
function checkUntouched(file: string, known: number): void {
  const info = statSync(file, { bigint: true, throwIfNoEntry: false });
  if (info === undefined || info.size === 0n || (openHere.get(`${info.dev}:${info.ino}`) ?? 0) > 0) return;
  const header = readHeader(file);
  if (header.length < headerBytes || header.toString('latin1', 0, 16) !== 'SQLite format 3\0') {
    throw new AppError('DATABASE_DAMAGED', 'The database of this data folder is damaged.');
  }
  // user_version, https://www.sqlite.org/fileformat2.html section 1.3
  const version = header.readInt32BE(60);
  if (version > known) throw newerDatabase(version, known);
  if (!existsSync(`${file}-wal`)) return;
  // After a crash the newest header may still be in the log; a read-only connection changes neither.
  const db = openSqlite(file, { readOnly: true });
  try {
    const logged = Number(db.pragma('user_version'));
    if (logged > known) throw newerDatabase(logged, known);
  } finally {
    db.close();
  }
}

const headerBytes = 100;

function readHeader(file: string): Buffer {
  try {
    const descriptor = openSync(file, 'r');
    try {
      const header = Buffer.alloc(headerBytes);
      return header.subarray(0, readSync(descriptor, header, 0, headerBytes, 0));
    } finally {
      closeSync(descriptor);
    }
  } catch (thrown) {
    throw new AppError('DATA_FOLDER_UNUSABLE', 'The database in the data folder cannot be read.', {
      cause: thrown,
    });
  }
}

function checkWhole(db: Sqlite): void {
  const found = db.pragma('quick_check(1)');
  if (found !== 'ok')
    throw new AppError('DATABASE_DAMAGED', 'The database of this data folder is damaged.', { cause: found });
}
