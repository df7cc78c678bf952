/** Numbered steps from one version of the database to the next; `PRAGMA user_version` says where a file is. */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { bindOldConsents } from './consent-tables.ts';
import { mergeTwins } from './merge-twins.ts';
import type { Sqlite } from './sqlite.ts';

export interface Migration {
  readonly version: number;
  /** Runs inside a transaction with foreign keys unchecked; they are checked as a whole before it commits. */
  apply(db: Sqlite): void;
}

/** Applies SQL files of this folder, one after the other. */
const fromFiles =
  (...names: string[]) =>
  (db: Sqlite): void => {
    for (const name of names) db.exec(readFileSync(new URL(`./${name}`, import.meta.url), 'utf8'));
  };

const viewRow = z.object({ sql: z.string() });

/** A site holds its own update by the row in `adapters`, so that an erasure can let go of it; a coordinator by this one. */
function holdArrivedUpdates(db: Sqlite): void {
  const select = "SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = 'blob_references'";
  const { sql } = db.get(viewRow, select)!;
  const arrived = 'FROM round_sites JOIN rounds USING (run_id, round) WHERE update_sha256 IS NOT NULL';
  if (!sql.includes(arrived)) throw new TypeError('the view blob_references has changed');
  db.exec(`DROP VIEW blob_references; ${sql.replace(arrived, `${arrived} AND cohort_sha256 IS NULL`)};`);
}

/** One more kind of row that names blobs, beside those that the view of one-home.sql and later steps tell of. */
function addBlobReferences(db: Sqlite, select: string): void {
  const view = db.get(
    viewRow,
    "SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = 'blob_references'",
  )!;
  db.exec(`DROP VIEW blob_references; ${view.sql}\nUNION ALL\n${select};`);
}

/** In order, without gaps, from 1. A migration that has shipped is never changed. */
export const migrations: readonly Migration[] = [
  { version: 1, apply: fromFiles('schema.sql') },
  { version: 2, apply: fromFiles('strategies-and-metrics.sql') },
  { version: 3, apply: fromFiles('update-arrivals.sql') },
  { version: 4, apply: fromFiles('one-home.sql') },
  { version: 5, apply: fromFiles('site-decides.sql') },
  { version: 6, apply: fromFiles('dismissals.sql') },
  {
    version: 7,
    apply(db) {
      const merged = mergeTwins(db);
      fromFiles('consent.sql')(db);
      bindOldConsents(db, merged);
    },
  },
  { version: 8, apply: fromFiles('images.sql') },
  {
    version: 9,
    apply: (db) => {
      fromFiles('rights.sql', 'rights-notices.sql')(db);
      holdArrivedUpdates(db);
    },
  },
  { version: 10, apply: fromFiles('people.sql') },
  {
    version: 11,
    apply(db) {
      fromFiles('subjects.sql')(db);
      addBlobReferences(db, "SELECT sha256, NULL, NULL, 'consent-document', 1 FROM consent_documents");
    },
  },
  { version: 12, apply: fromFiles('run-care.sql') },
  { version: 13, apply: fromFiles('positions.sql') },
];

export const databaseVersion = migrations.length;

export function newerDatabase(found: number, known: number): AppError {
  return new AppError(
    'DATABASE_NEWER',
    `This data folder was written by a newer Anneal (database version ${found}; this version reads up to ${known}).`,
  );
}

/**
 * Brings the database to the newest version, each step in a transaction of its own, so that a crash leaves it at a
 * whole version. A new file starts at 0.
 * @throws AppError DATABASE_NEWER | DATABASE_DAMAGED (also when the file belongs to another program)
 */
export function migrate(db: Sqlite, steps: readonly Migration[] = migrations): void {
  const version = Number(db.pragma('user_version'));
  if (version > steps.length) throw newerDatabase(version, steps.length);
  if (version === 0 && db.pragma('schema_version') !== 0) {
    throw new AppError('DATABASE_DAMAGED', 'The database of this data folder was not written by Anneal.');
  }
  // Steps that rebuild a table must drop the old one without touching the rows that point to it.
  db.pragma('foreign_keys = OFF');
  try {
    for (const step of steps.slice(version)) {
      db.transaction(() => {
        step.apply(db);
        if (db.pragma('foreign_key_check') !== undefined) {
          throw new AppError(
            'DATABASE_DAMAGED',
            `Rows were lost in the migration to database version ${step.version}.`,
          );
        }
        db.pragma(`user_version = ${step.version}`);
      });
    }
  } finally {
    db.pragma('foreign_keys = ON');
  }
}
