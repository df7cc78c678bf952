/** The one file that imports better-sqlite3: statements kept, rows parsed, errors put into Anneal's words. */
import Database from 'better-sqlite3';
import type { z } from 'zod';
import { AppError } from '../shared/errors.ts';

export type SqlValue = string | number | boolean | Uint8Array | null | undefined;
export type SqlParameters = Readonly<Record<string, SqlValue>>;

/** Statements take named parameters (`@name`); undefined is stored as NULL, booleans as 0 and 1. */
export interface Sqlite {
  readonly inTransaction: boolean;
  /** First row, parsed; null when there is none. */
  get<T>(row: z.ZodType<T>, sql: string, parameters?: SqlParameters): T | null;
  all<T>(row: z.ZodType<T>, sql: string, parameters?: SqlParameters): T[];
  /** One row at a time, for walks over whole tables. */
  each<T>(row: z.ZodType<T>, sql: string, parameters?: SqlParameters): Generator<T>;
  run(sql: string, parameters?: SqlParameters): { changes: number; lastId: number };
  /** Several statements, without parameters. */
  exec(sql: string): void;
  /** First value of the pragma's answer. */
  pragma(text: string): unknown;
  transaction<T>(body: () => T): T;
  /**
   * Copies the whole database as it is at one moment, the moment at which this resolves, to a new file, a few pages at
   * a time: others go on reading and writing through this connection meanwhile.
   * @param onPages hears how much is left; what it throws ends the copy
   */
  copyTo(file: string, onPages: (left: number, all: number) => void): Promise<void>;
  /** Runs this once the outermost transaction has been committed; at once outside of one. A name stands for one piece of work. */
  afterCommit(name: string, work: () => void): void;
  close(): void;
}

export interface SqliteOptions {
  readOnly?: boolean;
  /** How long a statement waits for another process's lock. */
  busyTimeoutMs?: number;
}

const defaultBusyTimeoutMs = 5_000;
/** Of a copy, 1 MiB: other work waits no longer than that takes. */
const pagesAtOnce = 256;

/** @throws AppError, see {@link sqliteError} */
export function openSqlite(file: string, options: SqliteOptions = {}): Sqlite {
  const db = translated(
    () =>
      new Database(file, {
        readonly: options.readOnly ?? false,
        fileMustExist: options.readOnly ?? false,
        timeout: options.busyTimeoutMs ?? defaultBusyTimeoutMs,
      }),
  );
  const committed = new Map<string, () => void>();
  const statements = new Map<string, Database.Statement<[SqlParameters]>>();
  const prepare = (sql: string) => {
    let statement = statements.get(sql);
    if (statement === undefined) {
      statement = db.prepare<[SqlParameters]>(sql);
      statements.set(sql, statement);
    }
    return statement;
  };
  return {
    get inTransaction() {
      return db.inTransaction;
    },
    get(row, sql, parameters = {}) {
      const found = translated(() => prepare(sql).get(bindable(parameters)));
      return found === undefined ? null : parseRow(row, found, sql);
    },
    all(row, sql, parameters = {}) {
      return translated(() => prepare(sql).all(bindable(parameters))).map((found) =>
        parseRow(row, found, sql),
      );
    },
    *each(row, sql, parameters = {}) {
      // A statement of its own: a kept one cannot be walked twice at a time.
      const rows = translated(() => db.prepare<[SqlParameters]>(sql).iterate(bindable(parameters)));
      try {
        for (;;) {
          const next = translated(() => rows.next());
          if (next.done === true) return;
          yield parseRow(row, next.value, sql);
        }
      } finally {
        // Otherwise the connection stays busy when the walk is left early.
        rows.return?.();
      }
    },
    run(sql, parameters = {}) {
      const done = translated(() => prepare(sql).run(bindable(parameters)));
      return { changes: done.changes, lastId: Number(done.lastInsertRowid) };
    },
    exec(sql) {
      translated(() => db.exec(sql));
    },
    pragma(text) {
      return translated(() => db.pragma(text, { simple: true }));
    },
    transaction(body) {
      const isOuter = !db.inTransaction;
      try {
        const result = translated(() => db.transaction(() => refusePromise(body())).immediate());
        if (isOuter) for (const work of committed.values()) work();
        return result;
      } finally {
        if (isOuter) committed.clear();
      }
    },
    afterCommit(name, work) {
      if (db.inTransaction) committed.set(name, work);
      else work();
    },
    async copyTo(file, onPages) {
      try {
        await db.backup(file, {
          progress({ remainingPages, totalPages }) {
            onPages(remainingPages, totalPages);
            return pagesAtOnce;
          },
        });
      } catch (thrown) {
        throw sqliteError(thrown) ?? thrown;
      }
    },
    close() {
      if (db.open) translated(() => db.close());
    },
  };
}

function bindable(parameters: SqlParameters): SqlParameters {
  const bound: Record<string, SqlValue> = {};
  for (const [name, value] of Object.entries(parameters)) {
    bound[name] = typeof value === 'boolean' ? Number(value) : (value ?? null);
  }
  return bound;
}

function parseRow<T>(row: z.ZodType<T>, found: unknown, sql: string): T {
  const parsed = row.safeParse(found);
  if (parsed.success) return parsed.data;
  const table = /\b(?:FROM|INTO|UPDATE)\s+(\w+)/i.exec(sql)?.[1] ?? 'a table';
  const columns = [...new Set(parsed.error.issues.map((issue) => issue.path[0]))].join(', ');
  throw new AppError(
    'DATABASE_DAMAGED',
    `The database holds a value in ${table} (${columns}) that does not belong there.`,
  );
}

/** A transaction must be over when its function returns; awaiting inside would commit half of the work. */
function refusePromise<T>(value: T): T {
  if (value instanceof Promise) {
    value.catch(() => undefined);
    throw new TypeError('A store transaction cannot be asynchronous.');
  }
  return value;
}

function translated<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw sqliteError(thrown) ?? thrown;
  }
}

/**
 * The AppError for an SQLite error that a person can do something about; null for all others (broken
 * constraints and programming errors), which callers handle or let through.
 */
export function sqliteError(thrown: unknown): AppError | null {
  if (thrown instanceof TypeError && thrown.message.includes('directory does not exist')) {
    return new AppError('DATA_FOLDER_UNUSABLE', 'The data folder does not exist.', { cause: thrown });
  }
  if (!(thrown instanceof Database.SqliteError)) return null;
  const code = thrown.code;
  // The WAL index is made to grow with ftruncate and mmap: a full disk shows there as an I/O error.
  if (code === 'SQLITE_FULL' || code === 'SQLITE_IOERR_SHMSIZE') {
    return new AppError('DISK_FULL', 'The disk that holds the data folder is full.', { cause: thrown });
  }
  if (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB') {
    return new AppError('DATABASE_DAMAGED', 'The database of this data folder is damaged.', {
      cause: thrown,
    });
  }
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) {
    return new AppError('DATABASE_BUSY', 'Another program holds the database of this data folder.', {
      cause: thrown,
    });
  }
  if (/^SQLITE_(CANTOPEN|READONLY|PERM|AUTH|IOERR|NOLFS)/.test(code)) {
    return new AppError(
      'DATA_FOLDER_UNUSABLE',
      'The database in the data folder cannot be read or written.',
      { cause: thrown },
    );
  }
  return null;
}

/** Whether an insert failed because its key is taken. */
export function isDuplicate(thrown: unknown): boolean {
  return (
    thrown instanceof Database.SqliteError &&
    (thrown.code === 'SQLITE_CONSTRAINT_PRIMARYKEY' || thrown.code === 'SQLITE_CONSTRAINT_UNIQUE')
  );
}

/** Whether a row names a parent (run, round, dataset, subject) that does not exist. */
export function isOrphan(thrown: unknown): boolean {
  return thrown instanceof Database.SqliteError && thrown.code === 'SQLITE_CONSTRAINT_FOREIGNKEY';
}
