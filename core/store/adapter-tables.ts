/** The model states that are kept, and the images behind them. */
import { z } from 'zod';
import {
  type AdapterKind,
  type AdapterRecord,
  adapterRecord,
  type CohortMember,
  type CohortRecord,
  cohortRecord,
  type SiteMemoryRecord,
  siteMemoryRecord,
} from './records.ts';
import {
  type Defaulted,
  insertSql,
  isOfSubject,
  replacements,
  rowsOf,
  subjectsOf,
  whereSql,
} from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

const foundRow = z.object({ found: z.literal(1) });
const memberRow = z.object({ imageId: z.int(), subjectId: z.int() });
const subjectRow = memberRow.pick({ subjectId: true });

export function createAdapters(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'adapters', adapterRecord);
  const insert = `${insertSql('adapters', rows.keys)} ON CONFLICT DO NOTHING`;
  return {
    /** The newest row with this hash. */
    get: (sha256: string) => rows.get('WHERE sha256 = @sha256 ORDER BY id DESC LIMIT 1', { sha256 }),
    /** Newest first. */
    list: (
      filter: {
        runId?: string | undefined;
        kind?: AdapterKind | undefined;
        sha256?: string | undefined;
      } = {},
    ) => rows.all(`${whereSql(filter)} ORDER BY id DESC`, { ...filter }),
    isGlobalState(runId: string, sha256: string): boolean {
      const sql =
        "SELECT 1 AS found FROM adapters WHERE run_id = @runId AND kind = 'global' AND sha256 = @sha256 LIMIT 1";
      return db.get(foundRow, sql, { runId, sha256 }) !== null;
    },
    /** Repeating an insert changes nothing. */
    insert(adapter: Defaulted<AdapterRecord, 'createdAt' | 'siteId' | 'startSha256'>): void {
      db.run(insert, { siteId: null, startSha256: null, ...adapter, createdAt: adapter.createdAt ?? now() });
    },
    /** Forgets an update of a site that is thrown away. @returns rows */
    remove(update: Pick<AdapterRecord, 'runId' | 'round' | 'siteId' | 'sha256'>): number {
      const filter = { ...update, kind: 'update' };
      return db.run(`DELETE FROM adapters${whereSql(filter)}`, filter).changes;
    },
  };
}

export function createSiteMemory(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'site_memory', siteMemoryRecord);
  const put = `${insertSql('site_memory', rows.keys)}
    ON CONFLICT (run_id, round) DO UPDATE SET ${replacements(['sha256', 'createdAt'])}`;
  const newestBefore = (runId: string, round: number) =>
    rows.get('WHERE run_id = @runId AND round < @round ORDER BY round DESC LIMIT 1', { runId, round });
  return {
    /** The newest of a run that was made before this round: what the round starts from. Null when there is none. */
    newestBefore,
    /** By run and round. */
    list: () => rows.all('ORDER BY run_id, round'),
    /** Call it in the transaction that announces the round's update. A round done again replaces its own. */
    put(memory: Pick<SiteMemoryRecord, 'runId' | 'round' | 'sha256'>): void {
      db.run(put, { ...memory, createdAt: now() });
    },
    /** Forgets what one round made. */
    remove(runId: string, round: number): void {
      db.run('DELETE FROM site_memory WHERE run_id = @runId AND round = @round', { runId, round });
    },
    /** Forgets all of a run that is older than what this round started from. */
    prune(runId: string, round: number): void {
      const oldest = newestBefore(runId, round)?.round;
      if (oldest === undefined) return;
      db.run('DELETE FROM site_memory WHERE run_id = @runId AND round < @oldest', { runId, oldest });
    },
  };
}

export function createCohorts(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'cohorts', cohortRecord);
  const insert = insertSql('cohorts', ['runId', 'round', 'sha256', 'purpose', 'frozenAt', 'size']);
  const insertMember = insertSql('cohort_members', ['cohortId', 'imageId', 'subjectId']);
  return {
    get: (id: number) => rows.get('WHERE id = @id', { id }),
    /** By round, then by time of freezing; superseded ones included. */
    byRun: (runId: string) => rows.all('WHERE run_id = @runId ORDER BY round, id', { runId }),
    /** Cohorts that hold an image that was or now is this subject's, superseded ones included. */
    bySubject: (subjectId: number) =>
      rows.all(`WHERE id IN (SELECT cohort_id FROM cohort_members WHERE ${isOfSubject}) ORDER BY id`, {
        subjectId,
      }),
    /** Cohorts that hold an image, superseded ones included. */
    byImage: (imageId: number) =>
      rows.all('WHERE id IN (SELECT cohort_id FROM cohort_members WHERE image_id = @imageId) ORDER BY id', {
        imageId,
      }),
    /** Whose images a cohort holds: as it was frozen, and as they were corrected since. */
    subjects: (id: number): number[] =>
      db
        .all(
          subjectRow,
          `SELECT DISTINCT subjects.id AS subjectId FROM cohort_members AS member
             JOIN subjects ON subjects.id IN ${subjectsOf('member')} WHERE member.cohort_id = @id`,
          { id },
        )
        .map(({ subjectId }) => subjectId),
    /** By image id. */
    members: (id: number): CohortMember[] =>
      db.all(
        memberRow,
        'SELECT image_id AS imageId, subject_id AS subjectId FROM cohort_members WHERE cohort_id = @id ORDER BY image_id',
        { id },
      ),
    insert: ({
      members,
      frozenAt = now(),
      ...cohort
    }: Defaulted<Omit<CohortRecord, 'id' | 'size' | 'superseded'>, 'frozenAt'> & {
      members: readonly CohortMember[];
    }): CohortRecord =>
      db.transaction(() => {
        const row = rows.write(insert, { ...cohort, frozenAt, size: members.length })!;
        for (const { imageId, subjectId } of members)
          db.run(insertMember, { cohortId: row.id, imageId, subjectId });
        return row;
      }),
    /** Only while nothing trained on it has left the site: a superseded cohort is not part of any model. */
    supersede(id: number): void {
      db.run('UPDATE cohorts SET superseded = 1 WHERE id = @id', { id });
    },
  };
}
