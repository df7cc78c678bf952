/** Opening the database file: nothing is written before it is known to be Anneal's, whole, and not newer. */
import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { AppError } from '../shared/errors.ts';
import { databaseVersion, type Migration, migrate, migrations, newerDatabase } from './migrations.ts';
import { openSqlite, type Sqlite } from './sqlite.ts';

/** @throws AppError DATABASE_NEWER | DATABASE_DAMAGED | DISK_FULL | DATA_FOLDER_UNUSABLE */
export function openDatabase(file: string, steps: readonly Migration[] = migrations): Sqlite {
  checkUntouched(file, steps.length);
  const db = openSqlite(file);
  try {
    checkWhole(db);
    // WAL: readers in other processes do not wait for the writer, and a commit is one sequential write.
    db.pragma('journal_mode = WAL');
    // FULL, although WAL would stay whole with NORMAL: NORMAL may lose the last commits when power fails, and a
    // consent withdrawal that was confirmed, or the mark of a message that was handled, must not come undone.
    // The price is one fsync per transaction; rounds take minutes.
    db.pragma('synchronous = FULL');
    // INSERT OR REPLACE deletes rows, and fires the triggers of append-only tables only with this.
    db.pragma('recursive_triggers = ON');
    db.pragma('trusted_schema = OFF');
    migrate(db, steps);
    return db;
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
    return db;
  } catch (thrown) {
    db.close();
    throw thrown;
  }
}

/**
 * Reads the version without changing the file or any beside it. Through SQLite, not by opening the file here: closing
 * a file drops all POSIX locks that this process holds on it (https://www.sqlite.org/howtocorrupt.html section 2.2).
 */
function checkUntouched(file: string, known: number): void {
  if (!existsSync(file)) return;
  // `immutable` reads the file alone: no locks, no write-ahead log, no shared memory.
  const version = readVersion(`${pathToFileURL(file).href}?immutable=1`);
  if (version > known) throw newerDatabase(version, known);
  if (!existsSync(`${file}-wal`)) return;
  // After a crash the newest header may still be in the log; a read-only connection changes neither.
  const logged = readVersion(file);
  if (logged > known) throw newerDatabase(logged, known);
}

function readVersion(file: string): number {
  const db = openSqlite(file, { readOnly: true });
  try {
    return Number(db.pragma('user_version'));
  } finally {
    db.close();
  }
}

function checkWhole(db: Sqlite): void {
  const found = db.pragma('quick_check(1)');
  if (found !== 'ok')
    throw new AppError('DATABASE_DAMAGED', 'The database of this data folder is damaged.', { cause: found });
}
