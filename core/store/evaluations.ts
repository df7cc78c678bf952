import { evaluationRecord } from './records.ts';
import { insertSql, selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Evaluations, EvaluationsReader } from './tables.ts';

const columns = selectList(evaluationRecord);

export function createEvaluationsReader(db: Sqlite): EvaluationsReader {
  return {
    ofState(runId, stateSha256) {
      return db.all(
        evaluationRecord,
        `SELECT ${columns} FROM evaluations WHERE run_id = @runId AND state_sha256 = @stateSha256 ORDER BY site_id`,
        { runId, stateSha256 },
      );
    },
    ofRun(runId) {
      return db.all(
        evaluationRecord,
        `SELECT ${columns} FROM evaluations WHERE run_id = @runId ORDER BY created_at, site_id`,
        { runId },
      );
    },
  };
}

export function createEvaluations(db: Sqlite, now: () => string): Evaluations {
  return {
    ...createEvaluationsReader(db),
    upsert(evaluation) {
      db.run(
        `${insertSql('evaluations', Object.keys(evaluationRecord.shape))}
         ON CONFLICT (run_id, state_sha256, site_id) DO UPDATE
           SET correct = excluded.correct, total = excluded.total, counts = excluded.counts,
             created_at = excluded.created_at`,
        {
          ...evaluation,
          counts: evaluation.counts == null ? null : JSON.stringify(evaluation.counts),
          createdAt: evaluation.createdAt ?? now(),
        },
      );
    },
  };
}
