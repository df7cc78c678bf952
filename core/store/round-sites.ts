import { AppError } from '../shared/errors.ts';
import { roundSiteRecord } from './records.ts';
import { columnName, definedKeys, selectList } from './sql-text.ts';
import { isOrphan, type Sqlite } from './sqlite.ts';
import type { RoundSites, RoundSitesReader } from './tables.ts';

const columns = selectList(roundSiteRecord);
const key = ['runId', 'round', 'siteId'];

export function createRoundSitesReader(db: Sqlite): RoundSitesReader {
  return {
    get(runId, round, siteId) {
      return db.get(
        roundSiteRecord,
        `SELECT ${columns} FROM round_sites WHERE run_id = @runId AND round = @round AND site_id = @siteId`,
        { runId, round, siteId },
      );
    },
    list(runId, round) {
      return db.all(
        roundSiteRecord,
        `SELECT ${columns} FROM round_sites WHERE run_id = @runId AND round = @round ORDER BY site_id`,
        { runId, round },
      );
    },
    listOfRun(runId) {
      return db.all(
        roundSiteRecord,
        `SELECT ${columns} FROM round_sites WHERE run_id = @runId ORDER BY round, site_id`,
        { runId },
      );
    },
  };
}

export function createRoundSites(db: Sqlite, now: () => string): RoundSites {
  return {
    ...createRoundSitesReader(db),
    upsert(row) {
      const given = { ...row, updatedAt: row.updatedAt ?? now() };
      const keys = definedKeys(given);
      const inserted = keys.includes('status') ? keys : [...keys, 'status'];
      const changed = keys.filter((name) => !key.includes(name)).map(columnName);
      try {
        return db.get(
          roundSiteRecord,
          `INSERT INTO round_sites (${inserted.map(columnName).join(', ')})
           VALUES (${inserted.map((name) => `@${name}`).join(', ')})
           ON CONFLICT (run_id, round, site_id) DO UPDATE
             SET ${changed.map((column) => `${column} = excluded.${column}`).join(', ')}
           RETURNING ${columns}`,
          { ...given, status: given.status ?? 'working' },
        )!;
      } catch (thrown) {
        if (isOrphan(thrown)) throw new AppError('NOT_FOUND', 'There is no such round.', { cause: thrown });
        throw thrown;
      }
    },
  };
}
