/** An erasure finds every table about a subject, and replaces text in the trail in no way that could hide anything else. */
import path from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { withoutPseudonym, withoutSubject } from '../../core/rights/subject-words.ts';
import { tablesAboutSubjects } from '../../core/store/erase-rows.ts';
import { openDatabase } from '../../core/store/open-database.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import { addImage, eraseSubject, openTestStore, temporaryFolder } from '../fixtures/store.ts';

describe('tables about subjects', () => {
  test('say by foreign keys whom they are about: an erasure deletes what these lead to', () => {
    using folder = temporaryFolder();
    const db = openDatabase(path.join(folder.dir, 'anneal.db'));
    const columns = db.all(
      z.object({ name: z.string(), column: z.string() }),
      `SELECT tables.name AS name, columns.name AS "column" FROM sqlite_schema AS tables,
         pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'`,
    );
    const about = new Set(tablesAboutSubjects(db));
    db.close();

    const naming = columns.filter(({ column }) =>
      /(^|_)(subject|image|event)_id$|pseudonym|source_name/.test(column),
    );
    // It keeps the id while the erasure is under way, and nothing afterwards.
    const others = naming.filter(({ name }) => name !== 'erasures' && !about.has(name));

    expect(others).toEqual([]);
    expect([...about]).toEqual(
      expect.arrayContaining([
        'images',
        'consent_events',
        'cohort_members',
        'evaluation_members',
        'kept_crops',
      ]),
    );
  });

  test('let go of rows of a subject that is being erased, and of no other', () => {
    using opened = openTestStore();
    const { store } = opened;
    for (const pseudonym of ['P1', 'P2']) addImage(store, pseudonym, `of ${pseudonym}`);
    const [one, other] = ['P1', 'P2'].map((pseudonym) => {
      const subjectId = store.subjects.byPseudonym(pseudonym)!.id;
      store.consentEvents.append({
        ...{ subjectId, kind: 'grant', purpose: 'p', documentVersion: '1', recordedBy: 'test' },
        ...{ validFrom: store.now(), expiresAt: null },
      });
      return subjectId;
    });
    const raw = new Database(opened.file);

    expect(() => store.eraseRows(one!)).toThrow('append-only');
    expect(() =>
      store.transaction(() => {
        const { id } = store.erasures.ask({ subjectId: one!, subjectRef: 'x', actor: 'test' });
        store.erasures.beginDeleting(id);
        store.eraseRows(other!);
      }),
    ).toThrow('append-only');
    eraseSubject(store, one!);

    expect(store.subjects.list().map(({ pseudonym }) => pseudonym)).toEqual(['P2']);
    expect(() => raw.exec('DELETE FROM consent_events')).toThrow('append-only');
    expect(() => raw.exec("UPDATE audit SET details = '{}'")).toThrow('append-only');
    raw.close();
  });
});

describe('an audit row whose text an erasure replaced', () => {
  const details = { pseudonym: 'P1', note: 'of an older version' };
  /** One row about P1, one about nobody, and the erasure's own. */
  function redacted(store: Store): void {
    store.audit.append({ actor: 'staff', action: 'consent.granted', details });
    store.audit.append({ actor: 'staff', action: 'other', details: { reason: 'because' } });
    const subjectId = store.subjects.upsert({ pseudonym: 'P1' }).id;
    const words = {
      words: new Set(['P1']),
      documents: new Set<string>(),
      labels: new Set<string>(),
      ref: store.subjects.refOf('P1'),
    };
    store.transaction(() => {
      const { id } = store.erasures.ask({ subjectId, subjectRef: words.ref, actor: 'test' });
      store.erasures.beginDeleting(id);
      store.eraseRows(subjectId);
      const rows = store.audit.redact((row) => withoutSubject(row, words));
      store.audit.append({
        actor: 'test',
        action: 'subject.erased',
        details: { subject: words.ref, redacted: rows },
      });
      store.erasures.rowsGone(id, [], {});
    });
  }
  const tampered = (sql: string) => {
    using folder = temporaryFolder();
    const file = path.join(folder.dir, 'anneal.db');
    const store = openStore(file);
    redacted(store);
    const before = store.audit.verify();
    store.close();
    const raw = new Database(file);
    raw.exec(`DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete; ${sql}`);
    raw.close();
    const again = openStore(file);
    const after = again.audit.verify();
    again.close();
    return { before, after };
  };

  test('fits by what the erasure says of it, and names nobody', () => {
    using opened = openTestStore();
    redacted(opened.store);

    expect(opened.store.audit.verify()).toMatchObject({ intact: true });
    expect(opened.store.audit.page().at(-1)).toMatchObject({
      details: { erased: true, subject: opened.store.subjects.refOf('P1') },
    });
    expect(JSON.stringify(opened.store.audit.page())).not.toContain('P1');
  });

  test.each([
    ['its text is replaced once more', "UPDATE audit SET details = '{}' WHERE seq = 1", 1],
    ['its actor is changed', "UPDATE audit SET actor = 'nobody' WHERE seq = 1", 1],
    ['its action is changed', "UPDATE audit SET action = 'other' WHERE seq = 1", 1],
    ['its time is changed', "UPDATE audit SET at = '2020-01-01T00:00:00.000Z' WHERE seq = 1", 1],
    ['another row is changed', "UPDATE audit SET details = '{}' WHERE seq = 2", 2],
    ['the row of the erasure is changed', 'UPDATE audit SET details = \'{"redacted":[]}\' WHERE seq = 3', 1],
    ['the row of the erasure is gone', 'DELETE FROM audit WHERE seq = 3', 1],
  ])('shows when %s', (_what, sql, seq) => {
    const { before, after } = tampered(sql);

    expect(before.intact).toBe(true);
    expect(after).toMatchObject({ intact: false, brokenAtSeq: seq });
  });
});

test('short pseudonyms are found where they stand alone, and not within other words and numbers', () => {
  const subject = {
    words: new Set(['7']),
    documents: new Set<string>(),
    labels: new Set<string>(),
    ref: 'ref',
  };

  expect(withoutSubject({ list: ['7', '17'], text: 'round 7 of 17: "7" is missing' }, subject)).toEqual({
    list: ['[erased]', '17'],
    text: 'round 7 of 17: "[erased]" is missing',
  });
  expect(withoutSubject({ runId: 'run-7', round: 7 }, subject)).toBeNull();
});

test('an erasure leaves alone what rows about others say, also where it is the same word', () => {
  const subject = {
    words: new Set(['1', 'v1']),
    documents: new Set(['teaching', '2026-01-01T00:00:00.000Z']),
    labels: new Set<string>(),
    ref: 'a'.repeat(64),
  };
  const said = { purpose: 'teaching', documentVersion: '1', validFrom: '2026-01-01T00:00:00.000Z', event: 3 };

  expect(withoutSubject({ ...said, subject: 'b'.repeat(64) }, subject)).toBeNull();
  expect(withoutSubject({ runId: '1', changes: { purposes: ['v1', 'teaching'] } }, subject)).toBeNull();
  // Its own rows name nothing of it but the keyed hash, and lists of old versions name it no more.
  expect(withoutSubject({ documentVersion: 'teaching', subject: subject.ref }, subject)).toEqual({
    ...{ documentVersion: '[erased]', subject: subject.ref },
  });
  expect(withoutSubject({ stillWithdrawn: ['1', '2'] }, subject)).toEqual({
    stillWithdrawn: ['[erased]', '2'],
  });
});

test('every character that a pseudonym may hold is looked for as it is, within a sentence, too', () => {
  const all = String.fromCodePoint(...Array.from({ length: 94 }, (_, index) => 33 + index));
  for (const word of [...all].map((character) => `P${character}902`)) {
    const subject = {
      words: new Set([word]),
      documents: new Set<string>(),
      labels: new Set<string>(),
      ref: 'ref',
    };
    expect(withoutSubject({ message: `The image of ${word} is gone.` }, subject)).toEqual({
      message: 'The image of [erased] is gone.',
    });
    expect(withoutPseudonym(`images/${word}/1.png`, word)).toBe('images/[erased]/1.png');
  }
});
