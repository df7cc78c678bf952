import { z } from 'zod';
import { cohortRecord } from './records.ts';
import { selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Cohorts, CohortsReader } from './tables.ts';

const columns = selectList(cohortRecord);
const memberRow = z.object({ imageId: z.int(), subjectId: z.int() });

export function createCohortsReader(db: Sqlite): CohortsReader {
  return {
    get(id) {
      return db.get(cohortRecord, `SELECT ${columns} FROM cohorts WHERE id = @id`, { id });
    },
    byRun(runId) {
      return db.all(cohortRecord, `SELECT ${columns} FROM cohorts WHERE run_id = @runId ORDER BY round, id`, {
        runId,
      });
    },
    bySubject(subjectId) {
      return db.all(
        cohortRecord,
        `SELECT ${columns} FROM cohorts
         WHERE id IN (SELECT cohort_id FROM cohort_members WHERE subject_id = @subjectId) ORDER BY id`,
        { subjectId },
      );
    },
    members(id) {
      return db.all(
        memberRow,
        'SELECT image_id AS imageId, subject_id AS subjectId FROM cohort_members WHERE cohort_id = @id ORDER BY image_id',
        { id },
      );
    },
  };
}

export function createCohorts(db: Sqlite, now: () => string): Cohorts {
  return {
    ...createCohortsReader(db),
    insert({ members, ...cohort }) {
      return db.transaction(() => {
        const row = db.get(
          cohortRecord,
          `INSERT INTO cohorts (run_id, round, sha256, purpose, frozen_at, size)
           VALUES (@runId, @round, @sha256, @purpose, @frozenAt, @size) RETURNING ${columns}`,
          { ...cohort, frozenAt: cohort.frozenAt ?? now(), size: members.length },
        )!;
        for (const { imageId, subjectId } of members) {
          db.run(
            'INSERT INTO cohort_members (cohort_id, image_id, subject_id) VALUES (@id, @imageId, @subjectId)',
            {
              id: row.id,
              imageId,
              subjectId,
            },
          );
        }
        return row;
      });
    },
    supersede(id) {
      db.run('UPDATE cohorts SET superseded = 1 WHERE id = @id', { id });
    },
  };
}
