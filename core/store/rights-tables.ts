/** What a person's rights need: what their pictures were used for, and what was erased. */
import { z } from 'zod';
import {
  type CohortMember,
  type ErasureRecord,
  type EvaluationCohortRecord,
  erasureRecord,
  evaluationCohortRecord,
  keptCropsRecord,
  type ModelVersionRecord,
  modelVersionRecord,
} from './records.ts';
import { insertSql, isOfSubject, rowsOf, subjectsOf } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

const countRow = z.object({ count: z.int() });

/** A coordinator that names another result each time does not fill the table. */
const maxVersionsOfRound = 16;

export function createModelVersions(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'model_versions', modelVersionRecord);
  const insert = `${insertSql('model_versions', rows.keys)} ON CONFLICT DO NOTHING`;
  return {
    /** By run and round. */
    list: () => rows.all('ORDER BY run_id, round, learnt_at'),
    /** Whether the coordinator has named it as a state of any run. */
    isKnown: (sha256: string): boolean =>
      db.get(countRow, 'SELECT count(*) AS count FROM model_versions WHERE sha256 = @sha256', { sha256 })!
        .count > 0,
    /** A state of a run that the coordinator named. The run must exist. Repeating it changes nothing. */
    learn(version: Omit<ModelVersionRecord, 'learntAt'>): void {
      const { runId, round } = version;
      const known = 'SELECT count(*) AS count FROM model_versions WHERE run_id = @runId AND round = @round';
      if (db.get(countRow, known, { runId, round })!.count >= maxVersionsOfRound) return;
      db.run(insert, { ...version, learntAt: now() });
    },
  };
}

const memberSubjectRow = z.object({ imageId: z.int(), subjectId: z.int() });
const memberSubjects = `SELECT member.image_id AS imageId, subjects.id AS subjectId FROM evaluation_members AS member
  JOIN subjects ON subjects.id IN ${subjectsOf('member')} WHERE member.cohort_id = @id`;

export function createEvaluationCohorts(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'evaluation_cohorts', evaluationCohortRecord);
  const insert = insertSql(
    'evaluation_cohorts',
    rows.keys.filter((key) => key !== 'id'),
  );
  const insertMember = insertSql('evaluation_members', ['cohortId', 'imageId', 'subjectId']);
  const ofSubject = `WHERE id IN (SELECT cohort_id FROM evaluation_members WHERE ${isOfSubject})`;
  return {
    ofRun: (runId: string) => rows.all('WHERE run_id = @runId ORDER BY id', { runId }),
    bySubject: (subjectId: number) => rows.all(`${ofSubject} ORDER BY id`, { subjectId }),
    /** How many images are left in it, and whose they are: as they were evaluated, and as they were corrected since. */
    subjects(id: number): { images: number; subjects: number[] } {
      const found = db.all(memberSubjectRow, memberSubjects, { id });
      return {
        images: new Set(found.map(({ imageId }) => imageId)).size,
        subjects: [...new Set(found.map(({ subjectId }) => subjectId))],
      };
    },
    /** Call it in the transaction that sends the counts. */
    insert: ({
      members,
      ...cohort
    }: Omit<EvaluationCohortRecord, 'id' | 'size' | 'evaluatedAt'> & {
      members: readonly CohortMember[];
    }): EvaluationCohortRecord =>
      db.transaction(() => {
        const row = rows.write(insert, { ...cohort, evaluatedAt: now(), size: members.length })!;
        for (const { imageId, subjectId } of members)
          db.run(insertMember, { cohortId: row.id, imageId, subjectId });
        return row;
      }),
  };
}

/** Subjects whose crops stay when no consent holds any more, because they chose so. */
export function createKeptCrops(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'kept_crops', keptCropsRecord);
  const put = `${insertSql('kept_crops', rows.keys)} ON CONFLICT DO NOTHING`;
  return {
    ofSubject: (subjectId: number) => rows.get('WHERE subject_id = @subjectId', { subjectId }),
    list: () => rows.all('ORDER BY subject_id'),
    /** False when it was so already. */
    set: (subjectId: number, actor: string): boolean =>
      db.run(put, { subjectId, actor, chosenAt: now() }).changes === 1,
    /** False when it was so already. */
    remove: (subjectId: number): boolean =>
      db.run('DELETE FROM kept_crops WHERE subject_id = @subjectId', { subjectId }).changes === 1,
  };
}

/** Every step of an erasure; core/rights/erase.ts says in which order. */
export function createErasures(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'erasures', erasureRecord);
  const insert = insertSql('erasures', ['subjectRef', 'subjectId', 'state', 'actor', 'askedAt']);
  const write = (sql: string, parameters: Parameters<Sqlite['run']>[1]): ErasureRecord => {
    const row = rows.write(`UPDATE erasures SET ${sql}`, parameters!);
    if (row === null) throw new TypeError('an erasure takes its steps in order');
    return row;
  };
  return {
    /** Oldest first. */
    list: () => rows.all('ORDER BY id'),
    /** Oldest first. */
    unfinished: () => rows.all("WHERE state <> 'done' ORDER BY id"),
    /** Of a subject that is still here. */
    underWay: (subjectId: number) => rows.get('WHERE subject_id = @subjectId', { subjectId }),
    newestOf: (subjectRef: string) =>
      rows.get('WHERE subject_ref = @subjectRef ORDER BY id DESC LIMIT 1', { subjectRef }),
    ask: (erasure: Pick<ErasureRecord, 'subjectRef' | 'actor'> & { subjectId: number }): ErasureRecord =>
      rows.write(insert, { ...erasure, state: 'asked', askedAt: now() })!,
    /** From here to {@link rowsGone}, in one transaction, the subject's rows may be deleted. */
    beginDeleting: (id: number) => write("state = 'deleting' WHERE id = @id AND state = 'asked'", { id }),
    rowsGone: (id: number, files: readonly string[], outcome: unknown) =>
      write(
        `state = 'files', subject_id = NULL, files = @files, outcome = @outcome
         WHERE id = @id AND state = 'deleting'`,
        { id, files: JSON.stringify(files), outcome: JSON.stringify(outcome) },
      ),
    done: (id: number) =>
      write("state = 'done', files = NULL, done_at = @now WHERE id = @id AND state = 'files'", {
        id,
        now: now(),
      }),
    /** The same pseudonym may come again. False when nothing stood against it. */
    readmit: (subjectRef: string): boolean =>
      db.run(
        'UPDATE erasures SET readmitted_at = @now WHERE subject_ref = @subjectRef AND readmitted_at IS NULL',
        { subjectRef, now: now() },
      ).changes > 0,
  };
}
