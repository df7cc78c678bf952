import { z } from 'zod';
import { adapterRecord } from './records.ts';
import { insertSql, selectList, whereSql } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Adapters, AdaptersReader } from './tables.ts';

const columns = selectList(adapterRecord);
const foundRow = z.object({ found: z.literal(1) });

export function createAdaptersReader(db: Sqlite): AdaptersReader {
  return {
    get(sha256) {
      return db.get(
        adapterRecord,
        `SELECT ${columns} FROM adapters WHERE sha256 = @sha256 ORDER BY id DESC LIMIT 1`,
        { sha256 },
      );
    },
    list(filter = {}) {
      return db.all(adapterRecord, `SELECT ${columns} FROM adapters${whereSql(filter)} ORDER BY id DESC`, {
        ...filter,
      });
    },
    isGlobalState(runId, sha256) {
      const sql =
        "SELECT 1 AS found FROM adapters WHERE run_id = @runId AND kind = 'global' AND sha256 = @sha256 LIMIT 1";
      return db.get(foundRow, sql, { runId, sha256 }) !== null;
    },
  };
}

export function createAdapters(db: Sqlite, now: () => string): Adapters {
  return {
    ...createAdaptersReader(db),
    insert(adapter) {
      db.run(`${insertSql('adapters', Object.keys(adapterRecord.shape))} ON CONFLICT DO NOTHING`, {
        ...adapter,
        siteId: adapter.siteId ?? null,
        createdAt: adapter.createdAt ?? now(),
      });
    },
    remove(update) {
      db.run(`DELETE FROM adapters${whereSql({ ...update, kind: 'update' })}`, { ...update, kind: 'update' });
    },
  };
}
