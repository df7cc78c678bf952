import { updateArrivalRecord } from './records.ts';
import { insertSql, selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { UpdateArrivals, UpdateArrivalsReader } from './tables.ts';

const columns = selectList(updateArrivalRecord);

export function createUpdateArrivalsReader(db: Sqlite): UpdateArrivalsReader {
  return {
    listOfRun(runId) {
      return db.all(
        updateArrivalRecord,
        `SELECT ${columns} FROM update_arrivals WHERE run_id = @runId ORDER BY round, site_id, created_at, sha256`,
        { runId },
      );
    },
  };
}

export function createUpdateArrivals(db: Sqlite, now: () => string): UpdateArrivals {
  return {
    ...createUpdateArrivalsReader(db),
    add(arrival) {
      db.run(
        `${insertSql('update_arrivals', Object.keys(updateArrivalRecord.shape))} ON CONFLICT DO NOTHING`,
        { ...arrival, createdAt: now() },
      );
    },
  };
}
