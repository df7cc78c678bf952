import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { openTestStore } from '../fixtures/store.ts';

describe('the audit trail', () => {
  const withRows = (count: number) => {
    const opened = openTestStore();
    for (let index = 0; index < count; index++) {
      opened.store.audit.append({
        actor: 'desk',
        action: 'counted',
        details: { index, nested: { b: 1, a: 'ü' } },
      });
    }
    return opened;
  };
  /** Raw access as somebody has who edits the file. */
  const tamper = (file: string, sql: string) => {
    const db = new Database(file);
    db.exec(`DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete; ${sql}`);
    db.close();
  };

  test('is whole as written, and paged from the newest row', () => {
    using opened = withRows(5);
    const { audit } = opened.store;

    const newest = audit.page({ limit: 2 });
    const older = audit.page({ beforeSeq: newest.at(-1)!.seq, limit: 10 });

    expect(newest.map((row) => row.details['index'])).toEqual([4, 3]);
    expect(older.map((row) => row.seq)).toEqual([3, 2, 1]);
    expect(audit.verify()).toEqual({
      ...{ intact: true, brokenAtSeq: null, brokenConsent: null },
      ...{ rows: 5, head: newest[0]!.hash },
    });
  });

  test.each([
    [
      'a changed detail',
      `UPDATE audit SET details = replace(details, '"index":2', '"index":7') WHERE seq = 3`,
      3,
    ],
    ['a changed actor', "UPDATE audit SET actor = 'somebody' WHERE seq = 2", 2],
    ['a changed time', "UPDATE audit SET at = '2020-01-01T00:00:00.000Z' WHERE seq = 5", 5],
    ['a removed row', 'DELETE FROM audit WHERE seq = 2', 3],
    ['a removed first row', 'DELETE FROM audit WHERE seq = 1', 2],
    [
      'two rows exchanged',
      'UPDATE audit SET seq = 9 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 9',
      2,
    ],
  ])('shows %s', (_, sql, brokenAtSeq) => {
    using opened = withRows(5);

    tamper(opened.file, sql);

    expect(opened.store.audit.verify()).toMatchObject({ intact: false, brokenAtSeq });
  });

  test('a tail that was cut off shows by the hash that was kept elsewhere', () => {
    using opened = withRows(3);
    const kept = opened.store.audit.verify().head;

    tamper(opened.file, 'DELETE FROM audit WHERE seq = 3');

    expect(opened.store.audit.verify().head).not.toBe(kept);
  });
});
