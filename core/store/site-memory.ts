import { siteMemoryRecord } from './records.ts';
import { insertSql, selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { SiteMemory, SiteMemoryReader } from './tables.ts';

const columns = selectList(siteMemoryRecord);

export function createSiteMemoryReader(db: Sqlite): SiteMemoryReader {
  return {
    newestBefore(runId, round) {
      return db.get(
        siteMemoryRecord,
        `SELECT ${columns} FROM site_memory WHERE run_id = @runId AND round < @round ORDER BY round DESC LIMIT 1`,
        { runId, round },
      );
    },
    list() {
      return db.all(siteMemoryRecord, `SELECT ${columns} FROM site_memory ORDER BY run_id, round`);
    },
  };
}

export function createSiteMemory(db: Sqlite, now: () => string): SiteMemory {
  const reader = createSiteMemoryReader(db);
  return {
    ...reader,
    put(memory) {
      db.run(
        `${insertSql('site_memory', Object.keys(siteMemoryRecord.shape))}
         ON CONFLICT (run_id, round) DO UPDATE SET sha256 = excluded.sha256, created_at = excluded.created_at`,
        { ...memory, createdAt: now() },
      );
    },
    remove(runId, round) {
      db.run('DELETE FROM site_memory WHERE run_id = @runId AND round = @round', { runId, round });
    },
    prune(runId, round) {
      const kept = reader.newestBefore(runId, round);
      if (kept === null) return;
      db.run('DELETE FROM site_memory WHERE run_id = @runId AND round < @oldest', {
        runId,
        oldest: kept.round,
      });
    },
  };
}
