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

/** Of the rounds of a run in which this site announced one, the last two: what was delivered may be asked for again until its round is closed. */
const newestOwn = `round >= (SELECT max(newer.round) FROM adapters AS newer
  WHERE newer.run_id = adapters.run_id AND newer.kind = 'update' AND newer.site_id IS adapters.site_id) - 1`;

/**
 * A site's own updates, the states that they were trained from and the states of rounds that are over were kept for good. The
 * newest stay, also of runs that are over: an export of the site's model is made of them.
 */
function releaseOwnUpdates(db: Sqlite): void {
  const isHeld = `kind = 'global' OR ${newestOwn}`;
  const replaced: readonly [string, string][] = [
    ["ELSE 'update' END, 1 FROM adapters", `ELSE 'update' END, ${isHeld} FROM adapters`],
    [
      "'start-state', 1 FROM adapters WHERE start_sha256 IS NOT NULL",
      `'start-state', ${isHeld} FROM adapters WHERE start_sha256 IS NOT NULL`,
    ],
    // Sites alone write down what lies under a round's state.
    [
      "'start-state', +run_id IS (SELECT id FROM current_run) FROM rounds",
      `'start-state', +run_id IS (SELECT id FROM current_run) AND (frozen_base_parts IS NULL
         OR round >= (SELECT max(every.round) FROM rounds AS every WHERE every.run_id = rounds.run_id) - 1) FROM rounds`,
    ],
  ];
  const select = "SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = 'blob_references'";
  let { sql } = db.get(viewRow, select)!;
  for (const [before, after] of replaced) {
    if (!sql.includes(before)) throw new TypeError('the view blob_references has changed');
    sql = sql.replace(before, after);
  }
  db.exec(`DROP VIEW blob_references; ${sql};`);
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
  { version: 13, apply: releaseOwnUpdates },
  { version: 14, apply: fromFiles('positions.sql') },
  { version: 15, apply: fromFiles('regions.sql') },
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
