/** Consents in the audit trail: whoever edits the file leaves a difference, and the site trains on nothing then. */
import path from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { consentStatus, recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { assertConsentsHold } from '../../core/consent/site-clock.ts';
import { migrations } from '../../core/store/migrations.ts';
import { openDatabase } from '../../core/store/open-database.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import { eraseSubject, openTestStore, temporaryFolder } from '../fixtures/store.ts';

const form = {
  purpose: 'federated-training',
  documentVersion: 'v1',
  recordedBy: 'desk',
  validFrom: '2026-01-01',
};

/** Events 1 to 5: grants to P1, P2, P3; a withdrawal of P2; a grant to P1 of another purpose. */
function withConsents() {
  const opened = openTestStore();
  const { store } = opened;
  for (const pseudonym of ['P1', 'P2', 'P3']) recordConsent(store, { ...form, pseudonym });
  withdrawConsent(store, { pseudonym: 'P2', recordedBy: 'nurse' });
  recordConsent(store, { ...form, pseudonym: 'P1', purpose: 'teaching' });
  return opened;
}

/** Raw access as somebody has who edits the file. */
function tamper(file: string, sql: string): void {
  const db = new Database(file);
  db.pragma('foreign_keys = OFF');
  db.exec(`DROP TRIGGER consent_events_no_update; DROP TRIGGER consent_events_no_delete; ${sql}`);
  db.close();
}

const isRefused = (store: Store) => {
  try {
    assertConsentsHold(store);
    return false;
  } catch (thrown) {
    return (thrown as { code: string }).code === 'CONSENTS_CHANGED';
  }
};

describe('consents in the audit trail', () => {
  test('are bound by the row that records them, which names nobody', () => {
    using opened = withConsents();
    const { audit, subjects } = opened.store;

    expect(audit.verify()).toMatchObject({ intact: true, brokenConsent: null });
    expect(isRefused(opened.store)).toBe(false);
    const [newest] = audit.page();
    expect(newest).toMatchObject({
      action: 'consent.granted',
      details: { event: 5, subject: subjects.refOf('P1'), sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    expect(JSON.stringify(audit.page())).not.toMatch(/P[123]/);
  });

  const insert = `INSERT INTO consent_events (id, subject_id, kind, purpose, document_version, valid_from, expires_at,
    recorded_at, recorded_by, after_withdrawal)`;
  test.each([
    ['a withdrawal deleted', 'DELETE FROM consent_events WHERE id = 4', { event: 4, seq: 4 }],
    ['the first grant deleted', 'DELETE FROM consent_events WHERE id = 1', { event: 1, seq: 1 }],
    ['the last event deleted', 'DELETE FROM consent_events WHERE id = 5', { event: 5, seq: 5 }],
    [
      'an end taken away',
      "UPDATE consent_events SET expires_at = '2030-01-01' WHERE id = 3",
      { event: 3, seq: 3 },
    ],
    [
      'a purpose changed',
      "UPDATE consent_events SET purpose = 'federated-training' WHERE id = 5",
      { event: 5, seq: 5 },
    ],
    [
      'a withdrawal made one of another purpose',
      "UPDATE consent_events SET purpose = 'x' WHERE id = 4",
      { event: 4, seq: 4 },
    ],
    [
      'a withdrawal made one of another subject',
      'UPDATE consent_events SET subject_id = 3 WHERE id = 4',
      { event: 4, seq: 4 },
    ],
    [
      'a grant said to be after the withdrawal',
      'UPDATE consent_events SET after_withdrawal = 4 WHERE id = 2',
      { event: 2, seq: 2 },
    ],
    [
      'an event inserted',
      `${insert} SELECT 6, 2, 'grant', purpose, 'v2', valid_from, NULL, recorded_at, 'desk', 4 FROM consent_events WHERE id = 2`,
      { event: 6, seq: null },
    ],
    [
      'two events exchanged',
      'UPDATE consent_events SET id = 9 WHERE id = 2; UPDATE consent_events SET id = 2 WHERE id = 4; UPDATE consent_events SET id = 4 WHERE id = 9',
      { event: 2, seq: 2 },
    ],
    ['a subject renamed', "UPDATE subjects SET pseudonym = 'P9' WHERE id = 1", { event: 1, seq: 1 }],
    ['all of them deleted', 'DELETE FROM consent_events', { event: 1, seq: 1 }],
  ])('show %s, with the place, and nothing is trained', (_what, sql, brokenConsent) => {
    using opened = withConsents();

    tamper(opened.file, sql);

    expect(opened.store.audit.verify()).toMatchObject({ intact: false, brokenAtSeq: null, brokenConsent });
    expect(isRefused(opened.store)).toBe(true);
  });

  test('do not get by with an invented row beside the change: the chain shows it', () => {
    using opened = withConsents();

    tamper(
      opened.file,
      `DROP TRIGGER audit_no_delete; DELETE FROM consent_events WHERE id = 4; DELETE FROM audit WHERE seq = 4`,
    );

    expect(opened.store.audit.verify()).toMatchObject({ intact: false, brokenAtSeq: 5 });
  });
});

describe('erasure of a subject', () => {
  test('takes its events away, and the trail still verifies; numbers are not given again', () => {
    using opened = withConsents();
    const { store } = opened;

    const erased = eraseSubject(store, store.subjects.byPseudonym('P1')!.id);

    expect(erased.map(({ event }) => event)).toEqual([1, 5]);
    expect(store.consentEvents.all().map(({ id }) => id)).toEqual([2, 3, 4]);
    expect(store.audit.verify()).toMatchObject({ intact: true });
    expect(store.audit.page()[0]).toMatchObject({
      action: 'consents.erased',
      details: { subject: store.subjects.refOf('P1'), events: erased },
    });
    expect(recordConsent(store, { ...form, pseudonym: 'P4' }).id).toBe(6);
    expect(store.audit.verify()).toMatchObject({ intact: true });
    // Events are append-only as before.
    const db = openDatabase(opened.file);
    expect(() => db.exec('DELETE FROM consent_events')).toThrow('append-only');
    db.close();
  });

  test('excuses nothing else: other events still must be there, and erased ones must stay away', () => {
    using first = withConsents();
    eraseSubject(first.store, 1);
    tamper(first.file, 'DELETE FROM consent_events WHERE id = 4');
    expect(first.store.audit.verify()).toMatchObject({ intact: false, brokenConsent: { event: 4 } });

    using second = withConsents();
    const copy = `CREATE TABLE kept AS SELECT * FROM consent_events WHERE id = 1;
      CREATE TABLE kept_subject AS SELECT * FROM subjects WHERE id = 1`;
    const db = new Database(second.file);
    db.exec(copy);
    db.close();
    eraseSubject(second.store, 1);
    const back =
      'INSERT INTO subjects SELECT * FROM kept_subject; INSERT INTO consent_events SELECT * FROM kept';
    tamper(second.file, back);
    expect(second.store.audit.verify()).toMatchObject({ intact: false, brokenConsent: { event: 1 } });
  });
});

describe('consents of a database of before version 7', () => {
  const old = `
    INSERT INTO subjects (id, pseudonym, created_at) VALUES (1, 'P1', '2026-01-01'), (2, 'P2', '2026-01-01');
    INSERT INTO consent_events (subject_id, kind, purpose, document_version, valid_from, recorded_at, recorded_by) VALUES
      (1, 'grant', 'p', 'v1', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 'desk'),
      (2, 'grant', 'p', 'v1', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 'desk'),
      (1, 'withdraw', '*', NULL, '2026-03-01T00:00:00.000Z', '2026-03-01T00:00:00.000Z', 'desk'),
      (1, 'grant', 'p', 'v1', '2026-01-01T00:00:00.000Z', '2026-03-02T00:00:00.000Z', 'import'),
      (2, 'withdraw', '*', NULL, '2026-03-01T00:00:00.000Z', '2026-03-01T00:00:00.000Z', 'desk'),
      (2, 'grant', 'p', 'v2', '2026-04-01T00:00:00.000Z', '2026-04-01T00:00:00.000Z', 'desk');`;
  function migrated(dir: string): { store: Store; file: string } & Disposable {
    const file = path.join(dir, 'anneal.db');
    const before = openDatabase(file, migrations.slice(0, 6));
    before.exec(old);
    before.close();
    const store = openStore(file);
    return { store, file, [Symbol.dispose]: () => store.close() };
  }

  test('are bound as they were found, and count as they did', () => {
    using folder = temporaryFolder();
    using opened = migrated(folder.dir);
    const { store } = opened;

    expect(store.consentEvents.all().map((event) => event.afterWithdrawal)).toEqual([
      ...[null, null, null],
      // An old list brought nothing back; a new consent did.
      ...[null, null, 5],
    ]);
    expect(store.audit.page()).toMatchObject([
      { action: 'consents.bound', details: { events: 6, lastEvent: 6 } },
    ]);
    expect(store.audit.verify()).toMatchObject({ intact: true });
    withdrawConsent(store, { pseudonym: 'P2', recordedBy: 'desk' });
    expect(store.audit.verify()).toMatchObject({ intact: true });
  });

  test.each([
    ['a withdrawal deleted', 'DELETE FROM consent_events WHERE id = 3'],
    ['the last of them deleted', 'DELETE FROM consent_events WHERE id = 6'],
    ['one changed', "UPDATE consent_events SET purpose = 'q' WHERE id = 3"],
    ['all deleted', 'DELETE FROM consent_events'],
  ])('show %s', (_what, sql) => {
    using folder = temporaryFolder();
    using opened = migrated(folder.dir);

    tamper(opened.file, sql);

    expect(opened.store.audit.verify()).toMatchObject({
      intact: false,
      brokenConsent: { event: null, seq: 1 },
    });
    expect(isRefused(opened.store)).toBe(true);
  });

  test('can be erased, and then nothing else may be missing', () => {
    using folder = temporaryFolder();
    using opened = migrated(folder.dir);
    eraseSubject(opened.store, 1);
    expect(opened.store.audit.verify()).toMatchObject({ intact: true });
    expect(recordConsent(opened.store, { ...form, pseudonym: 'P7' }).id).toBe(7);

    tamper(opened.file, 'DELETE FROM consent_events WHERE id = 5');

    expect(opened.store.audit.verify()).toMatchObject({ intact: false });
  });

  test('of one person under two forms of a pseudonym become one: what was withdrawn under one is withdrawn', () => {
    using folder = temporaryFolder();
    const file = path.join(folder.dir, 'anneal.db');
    const before = openDatabase(file, migrations.slice(0, 6));
    const [composed, decomposed] = [`Zo\u00EB-7`, `Zoe\u0308-7`];
    before.exec(`
      INSERT INTO subjects VALUES (1, '${decomposed}', x'01', '2026-01-01'), (2, '${composed}', NULL, '2026-01-01'),
        (3, 'Zoe-7', NULL, '2026-01-01'), (4, 'A\u030A', NULL, '2026-01-01'), (5, '\u212B', NULL, '2026-01-01');
      INSERT INTO consent_events (subject_id, kind, purpose, document_version, valid_from, recorded_at, recorded_by) VALUES
        (1, 'grant', 'p', 'v1', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 'desk'),
        (2, 'grant', 'p', 'v1', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 'desk'),
        (2, 'withdraw', '*', NULL, '2026-03-01T00:00:00.000Z', '2026-03-01T00:00:00.000Z', 'desk'),
        (3, 'grant', 'p', 'v1', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 'desk'),
        (4, 'grant', 'p', 'v1', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 'desk');
      INSERT INTO datasets VALUES (1, 'faces', 'then');
      INSERT INTO images VALUES (1, 1, 1, 'image', 'a.png', 'a', 'train', 'ready', NULL, 'crop', 9, 9, NULL, 'then');
      INSERT INTO runs VALUES ('run', '{}', 'running', 0, 'then', NULL, NULL);
      INSERT INTO cohorts VALUES (1, 'run', 0, 'cohort', 'p', 'then', 1, 0);
      INSERT INTO cohort_members VALUES (1, 1, 1);`);
    before.close();
    const store = openStore(file);

    expect(store.subjects.list().map(({ id, pseudonym }) => [id, pseudonym])).toEqual([
      ...[
        [4, 'A\u030A'],
        [3, 'Zoe-7'],
        [2, composed],
      ],
    ]);
    const subject = store.subjects.byPseudonym(decomposed)!;
    expect(subject).toMatchObject({ id: 2 });
    const status = (id: number) =>
      consentStatus(store.consentEvents.ofSubject(id), 'p', '2026-06-01T00:00:00.000Z');
    expect([2, 3, 4].map(status)).toEqual(['withdrawn', 'active', 'active']);
    expect(store.images.get(1)).toMatchObject({ subjectId: 2 });
    expect(store.cohorts.subjects(1)).toEqual([2]);
    expect(store.audit.page().map(({ action }) => action)).toEqual([
      ...['consents.bound', 'subjects.merged', 'subjects.merged'],
    ]);
    expect(store.audit.verify()).toMatchObject({ intact: true });
    // The tables are append-only again.
    store.close();
    const after = openDatabase(file);
    for (const table of ['consent_events', 'cohort_members'])
      expect(() => after.exec(`UPDATE ${table} SET subject_id = 3`)).toThrow(/append-only|do not change/);
    after.close();
  });

  test('inserted into a new database before anything was recorded are not taken for old ones', () => {
    using opened = openTestStore();
    opened.store.subjects.upsert({ pseudonym: 'P1' });
    opened.store.close();
    tamper(
      opened.file,
      `INSERT INTO consent_events (subject_id, kind, purpose, document_version, valid_from, recorded_at, recorded_by)
       VALUES (1, 'grant', 'p', 'v1', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 'nobody')`,
    );

    const store = openStore(opened.file);

    expect(store.audit.verify()).toMatchObject({ intact: false, brokenConsent: { event: 1, seq: null } });
    store.close();
  });
});
