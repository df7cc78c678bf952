import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { sha256 } from '../../core/shared/hash.ts';
import { voidOldApproval } from '../../core/site/approval.ts';
import { databaseVersion, type Migration, migrations } from '../../core/store/migrations.ts';
import { openDatabase } from '../../core/store/open-database.ts';
import type { Sqlite } from '../../core/store/sqlite.ts';
import { openReadOnlyStore, openStore } from '../../core/store/store.ts';
import { addImage, addRun, openTestStore, temporaryFolder } from '../fixtures/store.ts';

const codeOf = (work: () => unknown): unknown => {
  try {
    work();
  } catch (thrown) {
    return (thrown as { code?: unknown }).code;
  }
  return 'nothing was thrown';
};

/** A database that looks as a later Anneal would leave it. */
function writeNewerDatabase(file: string): void {
  const db = new Database(file);
  db.pragma('journal_mode = WAL');
  db.exec('CREATE TABLE from_the_future (x TEXT) STRICT');
  db.pragma(`user_version = ${databaseVersion + 1}`);
  db.close();
}

describe('a new database', () => {
  test('is at the newest version, checks foreign keys, and keeps what was committed when the power fails', () => {
    using folder = temporaryFolder();

    const db = openDatabase(path.join(folder.dir, 'anneal.db'));

    expect(db.pragma('user_version')).toBe(migrations.length);
    expect(db.pragma('foreign_keys')).toBe(1);
    expect(db.pragma('journal_mode')).toBe('wal');
    expect(db.pragma('synchronous')).toBe(2);
    db.close();
  });

  test('has STRICT tables only, each of which refuses a value of the wrong type', () => {
    using opened = openTestStore();
    const db = new Database(opened.file);

    const tables = db
      .prepare<[], { name: string; strict: number }>(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type <> 'view' AND name NOT LIKE 'sqlite_%'",
      )
      .all();

    expect(tables.length).toBeGreaterThanOrEqual(17);
    expect(tables.filter((table) => table.strict !== 1)).toEqual([]);
    const insert = db.prepare(
      "INSERT INTO runs (id, config, status, round, created_at) VALUES ('r', '{}', 'running', 'one', '')",
    );
    expect(codeOf(() => insert.run())).toBe('SQLITE_CONSTRAINT_DATATYPE');
    db.close();
  });

  test('opens again with its rows', () => {
    using folder = temporaryFolder();
    const file = path.join(folder.dir, 'anneal.db');
    const first = openStore(file);
    first.settings.set('name', 'Ward 7');
    first.close();

    const second = openStore(file);

    expect(second.settings.get('name', z.string())).toBe('Ward 7');
    second.close();
  });
});

describe('append-only tables', () => {
  const frozen = [
    "UPDATE consent_events SET purpose = 'advertising'",
    'DELETE FROM consent_events',
    "INSERT OR REPLACE INTO consent_events SELECT id, subject_id, kind, 'other', document_version, valid_from, expires_at, recorded_at, recorded_by, given_by, verified_on, reference, after_withdrawal FROM consent_events",
    "UPDATE audit SET actor = 'nobody'",
    'DELETE FROM audit',
    "INSERT OR REPLACE INTO audit SELECT seq, at, 'nobody', action, details, previous_hash, hash FROM audit",
    'UPDATE cohort_members SET subject_id = 1',
    'DELETE FROM cohort_members',
    'UPDATE cohorts SET size = 0',
    'DELETE FROM cohorts',
  ];

  test.each(frozen)('refuse: %s', (sql) => {
    using opened = openTestStore();
    const { store, file } = opened;
    const imageId = addImage(store, 'P1', 'one');
    const { id: subjectId } = store.subjects.byPseudonym('P1')!;
    const time = store.now();
    store.consentEvents.append({
      subjectId,
      kind: 'grant',
      purpose: 'p',
      documentVersion: '1',
      validFrom: time,
      expiresAt: null,
      recordedBy: 'desk',
    });
    store.audit.append({ actor: 'desk', action: 'test', details: {} });
    store.cohorts.insert({
      runId: 'r',
      round: 0,
      sha256: sha256(''),
      purpose: 'p',
      members: [{ imageId, subjectId }],
    });
    store.close();
    const db = openDatabase(file);

    expect(codeOf(() => db.exec(sql))).toBe('SQLITE_CONSTRAINT_TRIGGER');
    db.close();
  });
});

/** A row in every table, by the version that made the table or column. */
const oldRows: readonly (readonly [number, string])[] = [
  [
    1,
    `INSERT INTO settings VALUES ('site.foundation', '["part"]');
     INSERT INTO subjects VALUES (1, 'P1', NULL, 'then');
     INSERT INTO consent_events VALUES (1, 1, 'grant', 'training', '1', 'a', 'b', 'then', 'desk');
     INSERT INTO datasets VALUES (1, 'faces', 'then');
     INSERT INTO images VALUES (1, 1, 1, 'image', 'a.png', 'a', 'train', 'ready', NULL, 'crop', 9, 9, NULL, 'then');
     INSERT INTO sites VALUES ('s', 'Site', 'key', 'serial', 'then', NULL, NULL);
     INSERT INTO invitations VALUES ('i', 'Site', 'token', 'then', 'later', NULL, NULL);
     INSERT INTO runs VALUES ('run', '{}', 'running', 0, 'then', NULL, NULL);
     INSERT INTO rounds (run_id, round, stage, rank, status, trainable_parameters, start_sha256, opened_at)
       VALUES ('run', 0, 'heating', 4, 'open', 1, 'start', 'then');
     INSERT INTO round_sites (run_id, round, site_id, status, update_sha256, updated_at)
       VALUES ('run', 0, 's', 'announced', 'update', 'then');
     INSERT INTO evaluations (run_id, state_sha256, site_id, correct, total, created_at)
       VALUES ('run', 'state', 's', 1, 2, 'then');
     INSERT INTO cohorts VALUES (1, 'run', 0, 'cohort', 'training', 'then', 1, 0);
     INSERT INTO cohort_members VALUES (1, 1, 1);
     INSERT INTO adapters VALUES (1, 'state', 'run', -1, 'global', NULL, 4, 1, 1, 'then');
     INSERT INTO outbox VALUES (1, 'up', CAST('{"id":"m1","type":"evaluation","body":{}}' AS BLOB), 0, 'then', NULL);
     INSERT INTO outbox VALUES (2, 'up', CAST('{"id":"m2","type":"announce",
       "body":{"runId":"run","round":0,"update":{"sha256":"update"}}}' AS BLOB), 0, 'then', NULL);
     INSERT INTO outbox VALUES (3, 'up', x'00ff', 0, 'then', NULL);
     INSERT INTO inbox VALUES ('s', 'm0', 'then');
     INSERT INTO audit VALUES (1, 'then', 'desk', 'test', '{}', '0', '1');`,
  ],
  [
    2,
    `INSERT INTO site_memory VALUES ('run', 0, 'local', 'then');
     UPDATE rounds SET foundation_sha256 = 'base';
     INSERT INTO rounds (run_id, round, stage, rank, status, trainable_parameters, start_sha256, opened_at, memory_sha256)
       VALUES ('run', 1, 'heating', 4, 'closed', 1, 'start', 'then', 'memory');`,
  ],
  [3, "INSERT INTO update_arrivals VALUES ('run', 0, 's', 'arrived', 'then')"],
  [4, `INSERT INTO settings VALUES ('site.approval', '{"rMax":16}')`],
  [
    5,
    `INSERT INTO site_policies VALUES (1, '{}', 'hash', 'desk', 'then');
     INSERT INTO contracts VALUES ('run', 'contract', '{}', NULL, 'then');
     INSERT INTO decisions VALUES (1, 'run', 'contract', 'approved', NULL, NULL, NULL, 'desk', 'then', NULL);
     UPDATE sites SET policy = '{}';`,
  ],
  [6, "UPDATE sites SET dismissed_until = 'later', dismissal_reason = 'why'"],
];

/** All rows of a table, as another program reads them. */
function contentOf(file: string, table: string): Record<string, unknown>[] {
  const db = new Database(file, { readonly: true });
  const rows = db.prepare<[], Record<string, unknown>>(`SELECT * FROM ${table}`).all();
  db.close();
  return rows;
}

describe('migrations', () => {
  const addColumn: Migration = {
    version: migrations.length + 1,
    apply: (db) => db.exec("ALTER TABLE datasets ADD COLUMN note TEXT NOT NULL DEFAULT ''"),
  };

  test('are numbered without gaps', () => {
    expect(migrations.map(({ version }) => version)).toEqual(migrations.map((_, index) => index + 1));
  });

  test('bring an older database up to date and keep its rows', () => {
    using opened = openTestStore();
    opened.store.datasets.ensure('faces');
    opened.store.close();

    const db = openDatabase(opened.file, [...migrations, addColumn]);

    const row = z.object({ name: z.string(), note: z.string() });
    expect(db.all(row, 'SELECT name, note FROM datasets')).toEqual([{ name: 'faces', note: '' }]);
    expect(db.pragma('user_version')).toBe(migrations.length + 1);
    db.close();
  });

  test.each([1, 2, 3, 4, 5, 6])(
    'a database of version %i keeps every row, and what it names stays held',
    (version) => {
      using folder = temporaryFolder();
      const file = path.join(folder.dir, 'anneal.db');
      // Rows come as the versions wrote them: the fourth step changed tables that the first had filled.
      for (const [since, sql] of oldRows.filter(([since]) => since <= version)) {
        const older = openDatabase(file, migrations.slice(0, Math.max(since, Math.min(version, 3))));
        older.exec(sql);
        older.close();
      }
      const before = openDatabase(file, migrations.slice(0, version));
      const tables = before.all(
        z.object({ name: z.string() }),
        "SELECT name FROM pragma_table_list WHERE type = 'table' AND schema = 'main' AND name NOT LIKE 'sqlite_%'",
      );
      const count = (db: Sqlite, table: string) =>
        db.get(z.object({ n: z.int() }), `SELECT count(*) AS n FROM ${table}`)!.n;
      const counts = tables.map(({ name }) => [name, count(before, name)] as const);
      const contents = tables.map(({ name }) => [name, contentOf(file, name)] as const);
      before.close();

      const store = openStore(file);
      const after = openDatabase(file);

      expect(counts.filter(([, rows]) => rows === 0)).toEqual([]);
      for (const [name, rows] of counts.filter(([name]) => name !== 'inbox')) {
        // A message that nobody can answer is forgotten, as the first answer would have made it.
        const lost = name === 'outbox' && version < 4 ? 1 : 0;
        // Consents are bound by a row; the key behind the names of subjects, and the latest time known, are settings.
        const added = { audit: 1, settings: 2 }[name] ?? 0;
        expect([name, count(after, name)]).toEqual([name, rows - lost + added]);
      }
      // From version 4 on no step rewrites a value: every row is there as it was, with columns beside it.
      for (const [name, rows] of version < 4 ? [] : contents) {
        const now = contentOf(file, name);
        for (const row of rows)
          expect([name, now]).toEqual([name, expect.arrayContaining([expect.objectContaining(row)])]);
      }
      expect(after.pragma('user_version')).toBe(migrations.length);
      expect(store.outbox.pending()).toMatchObject([{ id: 1 }, { id: 2, createdAt: 'then' }]);
      store.outbox.markAnswered({ messageId: 'm1' });
      store.outbox.markAnswered({ type: 'announce', runId: 'run', round: 0, updateSha256: 'update' });
      expect(store.outbox.pending()).toEqual([]);
      const named = ['crop', 'state', 'start', 'update', 'part', ...['base', 'memory', 'local', 'arrived']];
      const held = store.blobReferences.heldAmong(named);
      const isHeld = { base: version > 1, memory: version > 1, local: version > 1, arrived: false };
      expect(named.map((name) => [name, held.has(name)])).toEqual(
        named.map((name) => [name, isHeld[name as keyof typeof isHeld] ?? true]),
      );
      expect(store.rounds.get('run', 0)).toMatchObject({ frozenBaseSha256: version > 1 ? 'base' : null });
      after.close();
      store.close();
    },
  );

  test('an approval of before there were contracts is void, and the site asks again; nothing else is lost', () => {
    using folder = temporaryFolder();
    const file = path.join(folder.dir, 'anneal.db');
    const before = openDatabase(file, migrations.slice(0, 4));
    before.exec(`INSERT INTO settings VALUES ('site.approval', '{"rMax":16}'), ('site.paused', 'true')`);
    before.close();
    const store = openStore(file);

    voidOldApproval(store);
    voidOldApproval(store);

    expect(store.settings.has('site.approval')).toBe(false);
    expect(store.settings.get('site.paused', z.boolean())).toBe(true);
    expect(store.audit.page().map(({ action, actor }) => [action, actor])).toEqual([
      ['approval-void', 'anneal'],
    ]);
    expect(store.decisions.list()).toEqual([]);
    store.close();
  });

  test('a step that fails half way leaves the version before it', () => {
    using opened = openTestStore();
    opened.store.close();
    const failing: Migration = {
      version: migrations.length + 1,
      apply(db) {
        addColumn.apply(db);
        throw new Error('lost power');
      },
    };

    expect(() => openDatabase(opened.file, [...migrations, failing])).toThrow('lost power');

    const db = openDatabase(opened.file);
    expect(db.pragma('user_version')).toBe(migrations.length);
    expect(codeOf(() => db.exec('SELECT note FROM datasets'))).toBe('SQLITE_ERROR');
    db.close();
  });

  test('a step that leaves rows without their parent is undone', () => {
    using opened = openTestStore();
    addImage(opened.store, 'P1', 'one');
    opened.store.close();
    const careless: Migration = { version: 2, apply: (db) => db.exec('DELETE FROM subjects') };

    expect(codeOf(() => openDatabase(opened.file, [...migrations, careless]))).toBe('DATABASE_DAMAGED');

    const store = openStore(opened.file);
    expect(store.subjects.count()).toBe(1);
    store.close();
  });
});

describe('a database that is not ours to open', () => {
  test('a newer one is refused, byte-identical and without files beside it', () => {
    using folder = temporaryFolder();
    const file = path.join(folder.dir, 'anneal.db');
    writeNewerDatabase(file);
    const before = readFileSync(file);

    expect(codeOf(() => openStore(file))).toBe('DATABASE_NEWER');
    expect(codeOf(() => openReadOnlyStore(file))).toBe('DATABASE_NEWER');

    expect(readFileSync(file).equals(before)).toBe(true);
    expect(readdirSync(folder.dir)).toEqual(['anneal.db']);
  });

  test('a newer one whose version is still in the write-ahead log is refused, log and file untouched', () => {
    using folder = temporaryFolder();
    const file = path.join(folder.dir, 'anneal.db');
    openStore(file).close();
    const newer = new Database(file);
    newer.pragma('wal_autocheckpoint = 0');
    newer.pragma(`user_version = ${databaseVersion + 1}`);
    // What a crash leaves: the log was never folded into the file.
    const crashed = path.join(folder.dir, 'crashed.db');
    writeFileSync(crashed, readFileSync(file));
    writeFileSync(`${crashed}-wal`, readFileSync(`${file}-wal`));
    newer.close();
    const before = [readFileSync(crashed), readFileSync(`${crashed}-wal`)];

    expect(codeOf(() => openStore(crashed))).toBe('DATABASE_NEWER');

    expect(readFileSync(crashed).equals(before[0]!)).toBe(true);
    expect(readFileSync(`${crashed}-wal`).equals(before[1]!)).toBe(true);
  });

  test.each([
    ['text', Buffer.from('a letter, not a database. '.repeat(50))],
    ['a cut-off header', Buffer.from('SQLite format 3\0')],
  ])('%s is refused as damaged', (_, content) => {
    using folder = temporaryFolder();
    const file = path.join(folder.dir, 'anneal.db');
    writeFileSync(file, content);

    expect(codeOf(() => openStore(file))).toBe('DATABASE_DAMAGED');

    expect(readFileSync(file).equals(content)).toBe(true);
  });

  test('one with a page overwritten is refused as damaged', () => {
    using opened = openTestStore();
    opened.store.transaction(() => {
      for (let index = 0; index < 200; index++) addImage(opened.store, `P${index}`, `image ${index}`);
    });
    opened.store.close();
    const bytes = readFileSync(opened.file);
    bytes.fill(0x5a, bytes.length - 3 * 4096, bytes.length - 4096);
    writeFileSync(opened.file, bytes);

    expect(codeOf(() => openStore(opened.file))).toBe('DATABASE_DAMAGED');
  });

  test('the database of another program is refused and kept', () => {
    using folder = temporaryFolder();
    const file = path.join(folder.dir, 'anneal.db');
    const other = new Database(file);
    other.exec('CREATE TABLE bookmarks (url TEXT)');
    other.close();

    expect(codeOf(() => openStore(file))).toBe('DATABASE_DAMAGED');

    const again = new Database(file);
    expect(again.prepare('SELECT count(*) AS n FROM bookmarks').get()).toEqual({ n: 0 });
    again.close();
  });

  test('a missing one cannot be opened for reading, and a missing folder not for writing', () => {
    using folder = temporaryFolder();

    expect(codeOf(() => openReadOnlyStore(path.join(folder.dir, 'none.db')))).toBe('NOT_FOUND');
    expect(codeOf(() => openStore(path.join(folder.dir, 'no', 'folder.db')))).toBe('DATA_FOLDER_UNUSABLE');
  });
});

describe('limits', () => {
  test('a full disk is named as such, and the transaction is undone as a whole', () => {
    using folder = temporaryFolder();
    const db = openDatabase(path.join(folder.dir, 'anneal.db'));
    // The same SQLITE_FULL as a disk without space gives.
    db.pragma(`max_page_count = ${Number(db.pragma('page_count')) + 2}`);

    const code = codeOf(() =>
      db.transaction(() => {
        for (let index = 0; index < 50; index++) {
          db.run(
            `INSERT INTO outbox (topic, payload, retain, created_at, message_id, type)
             VALUES (@topic, @payload, 0, @topic, @topic, 'test')`,
            {
              topic: `t${index}`,
              payload: new Uint8Array(4096),
            },
          );
        }
      }),
    );

    expect(code).toBe('DISK_FULL');
    expect(db.get(z.object({ n: z.int() }), 'SELECT count(*) AS n FROM outbox')).toEqual({ n: 0 });
    db.close();
  });

  test('a read-only store sees new rows at once, has no writers, and does not disturb the open one', () => {
    using opened = openTestStore();
    const { store, file } = opened;
    const reader = openReadOnlyStore(file);

    addRun(store, 'r1');

    expect(reader.runs.current()?.id).toBe('r1');
    // @ts-expect-error the compiler knows no writer of it; SQLite refuses one that gets through
    expect(codeOf(() => reader.runs.update('r1', { round: 1 }))).toBe('DATA_FOLDER_UNUSABLE');
    // @ts-expect-error nor its transactions
    expect(reader.transaction).toBeUndefined();
    reader.close();
    store.runs.update('r1', { status: 'running' });
    expect(store.runs.get('r1')?.status).toBe('running');
  });
});
