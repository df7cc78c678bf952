/** Runs, their rounds, and what each site did in them. */
import { AppError } from '../shared/errors.ts';
import {
  type EvaluationRecord,
  evaluationRecord,
  type RoundRecord,
  type RoundSiteRecord,
  type RunRecord,
  roundMemberRecord,
  roundRecord,
  roundSiteRecord,
  runRecord,
  type UpdateArrivalRecord,
  updateArrivalRecord,
} from './records.ts';
import {
  asColumns,
  assignments,
  type Defaulted,
  definedKeys,
  insertSql,
  type Patch,
  replacements,
  rowsOf,
} from './sql-text.ts';
import { isDuplicate, isOrphan, type Sqlite } from './sqlite.ts';

/** @throws AppError NOT_FOUND when there is no such row */
function found<T>(row: T | null, what: string): T {
  if (row === null) throw new AppError('NOT_FOUND', `There is no such ${what}.`);
  return row;
}

/** Broken constraints in words. @throws AppError RUN_CONFLICT | NOT_FOUND */
function inserted<T>(insert: () => T, taken: string, parent: string): T {
  try {
    return insert();
  } catch (thrown) {
    if (isDuplicate(thrown))
      throw new AppError('RUN_CONFLICT', `${taken} already exists.`, { cause: thrown });
    if (isOrphan(thrown)) throw new AppError('NOT_FOUND', `There is no such ${parent}.`, { cause: thrown });
    throw thrown;
  }
}

export function createRuns(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'runs', runRecord);
  const insert = insertSql('runs', ['id', 'config', 'status', 'round', 'createdAt']);
  const newestFirst = 'ORDER BY created_at DESC, rowid DESC';
  /** Runs are told apart by which came later, so none is older than one that was there before it, whatever the clock shows. */
  const notBefore = (at: string): string =>
    [at, rows.get(`${newestFirst} LIMIT 1`)?.createdAt ?? ''].sort()[1]!;
  const get = (id: string) => rows.get('WHERE id = @id', { id });
  return {
    get,
    /** Those that are not over, the newest first. */
    unfinished: () => rows.all(`WHERE finished_at IS NULL ${newestFirst}`),
    /** Newest first. */
    list: () => rows.all(newestFirst),
    /** The newest run that is waiting, running or evaluating. */
    current: () => rows.get(`WHERE status IN ('waiting', 'running', 'evaluating') ${newestFirst} LIMIT 1`),
    /** `status` defaults to waiting, `round` to 0. */
    insert({
      id,
      config,
      status = 'waiting',
      round = 0,
      createdAt = notBefore(now()),
    }: Defaulted<
      Pick<RunRecord, 'id' | 'config' | 'status' | 'round' | 'createdAt'>,
      'status' | 'round' | 'createdAt'
    >): RunRecord {
      const values = { id, config: JSON.stringify(config), status, round, createdAt };
      return inserted(() => rows.write(insert, values)!, 'This run', 'run');
    },
    /** @throws AppError NOT_FOUND */
    update(
      id: string,
      change: Patch<Pick<RunRecord, 'status' | 'round' | 'finishedAt' | 'failure' | 'pause'>>,
    ): RunRecord {
      const keys = definedKeys(change);
      const row =
        keys.length === 0
          ? get(id)
          : rows.write(`UPDATE runs SET ${assignments(keys)} WHERE id = @id`, { ...asColumns(change), id });
      return found(row, 'run');
    },
  };
}

type NewRound = Defaulted<
  RoundRecord,
  Exclude<keyof RoundRecord, 'runId' | 'round' | 'stage' | 'rank' | 'trainableParameters' | 'startSha256'>
>;
export type RoundChange = Patch<Omit<RoundRecord, 'runId' | 'round'>> & {
  /** Added to what is stored, in one statement. */
  addParametersUp?: number | undefined;
};
/** What was sent, to be added to a round's counters. */
export interface RoundTraffic {
  readonly bytesUp?: number;
  readonly bytesDown?: number;
  readonly parametersDown?: number;
}

export function createRounds(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'rounds', roundRecord);
  const insert = insertSql('rounds', rows.keys);
  const unset = {
    ...Object.fromEntries(rows.keys.map((key) => [key, null])),
    ...{ status: 'open', bytesUp: 0, bytesDown: 0, parametersUp: 0, parametersDown: 0 },
  };
  const byKey = 'WHERE run_id = @runId AND round = @round';
  const holdsPart = 'EXISTS (SELECT 1 FROM json_each(frozen_base_parts) WHERE value = @sha256)';
  const get = (runId: string, round: number) => rows.get(byKey, { runId, round });
  return {
    get,
    /** By round. */
    listOfRun: (runId: string) => rows.all('WHERE run_id = @runId ORDER BY round', { runId }),
    /** Whether it lies under the state of any round, as the coordinator has named it. */
    isFrozenBasePart: (sha256: string): boolean =>
      rows.get(`WHERE ${holdsPart} LIMIT 1`, { sha256 }) !== null,
    /** `status` defaults to open, counters to 0. The run must exist. @throws AppError RUN_CONFLICT when the round exists */
    insert: (round: NewRound): RoundRecord =>
      inserted(
        () => rows.write(insert, { ...unset, openedAt: now(), ...asColumns(round) })!,
        `Round ${round.round} of this run`,
        'run',
      ),
    /** @throws AppError NOT_FOUND */
    update(runId: string, round: number, { addParametersUp, ...fields }: RoundChange): RoundRecord {
      const added = addParametersUp === undefined ? [] : ['parameters_up = parameters_up + @addParametersUp'];
      const keys = definedKeys(fields);
      const sets = [...(keys.length === 0 ? [] : [assignments(keys)]), ...added].join(', ');
      const values = { ...asColumns(fields), addParametersUp, runId, round };
      return found(
        sets === '' ? get(runId, round) : rows.write(`UPDATE rounds SET ${sets} ${byKey}`, values),
        'round',
      );
    },
    /** Adds to the counters of the round that its run is in; nothing when that round was not opened. */
    addTraffic(runId: string, { bytesUp = 0, bytesDown = 0, parametersDown = 0 }: RoundTraffic): void {
      // Once for each chunk of a transfer: one statement, and nothing read.
      db.run(
        `UPDATE rounds SET bytes_up = bytes_up + @bytesUp, bytes_down = bytes_down + @bytesDown,
           parameters_down = parameters_down + @parametersDown
         WHERE run_id = @runId AND round = (SELECT round FROM runs WHERE id = @runId)`,
        { runId, bytesUp, bytesDown, parametersDown },
      );
    },
  };
}

type RoundSiteKey = 'runId' | 'round' | 'siteId';

export function createRoundSites(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'round_sites', roundSiteRecord);
  const key: readonly string[] = ['runId', 'round', 'siteId'];
  return {
    get: (runId: string, round: number, siteId: string) =>
      rows.get('WHERE run_id = @runId AND round = @round AND site_id = @siteId', { runId, round, siteId }),
    /** By site. */
    list: (runId: string, round: number) =>
      rows.all('WHERE run_id = @runId AND round = @round ORDER BY site_id', { runId, round }),
    listOfRun: (runId: string) => rows.all('WHERE run_id = @runId ORDER BY round, site_id', { runId }),
    /** Fields not given keep their value; a new row starts as `working` with nulls. The round must exist. */
    upsert(
      row: Pick<RoundSiteRecord, RoundSiteKey> & Patch<Omit<RoundSiteRecord, RoundSiteKey>>,
    ): RoundSiteRecord {
      const given = { ...row, updatedAt: row.updatedAt ?? now() };
      const keys = definedKeys(given);
      const changed = keys.filter((name) => !key.includes(name));
      const upsert = `${insertSql('round_sites', [...new Set([...keys, 'status'])])}
        ON CONFLICT (run_id, round, site_id) DO UPDATE SET ${replacements(changed)}`;
      const values = { ...given, status: row.status ?? 'working' };
      return inserted(() => rows.write(upsert, values)!, 'This site of the round', 'round');
    },
  };
}

export function createRoundMembers(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'round_members', roundMemberRecord);
  const join = `${insertSql('round_members', ['runId', 'round', 'siteId', 'joinedAt'])}
    ON CONFLICT (run_id, round, site_id) DO UPDATE SET left_at = NULL`;
  const byRound = 'WHERE run_id = @runId AND round = @round';
  return {
    /** Ids of the sites that the round waits for, in order. */
    of: (runId: string, round: number) =>
      rows
        .all(`${byRound} AND left_at IS NULL ORDER BY site_id`, { runId, round })
        .map(({ siteId }) => siteId),
    /** Repeating it changes nothing. The round must exist. */
    join(runId: string, round: number, siteIds: readonly string[]): void {
      for (const siteId of siteIds) db.run(join, { runId, round, siteId, joinedAt: now() });
    },
    leave(runId: string, round: number, siteId: string): void {
      const leave = `UPDATE round_members SET left_at = @leftAt ${byRound} AND site_id = @siteId`;
      db.run(leave, { runId, round, siteId, leftAt: now() });
    },
  };
}

export function createUpdateArrivals(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'update_arrivals', updateArrivalRecord);
  const insert = `${insertSql('update_arrivals', rows.keys)} ON CONFLICT DO NOTHING`;
  return {
    /** By round, then by site. */
    listOfRun: (runId: string) =>
      rows.all('WHERE run_id = @runId ORDER BY round, site_id, created_at, sha256', { runId }),
    /** Hashes of what a site announced for a round. */
    ofSite: (runId: string, round: number, siteId: string) =>
      rows
        .all('WHERE run_id = @runId AND round = @round AND site_id = @siteId', { runId, round, siteId })
        .map(({ sha256 }) => sha256),
    /** Whether a site announced this file for any round of any run. */
    isFrom: (siteId: string, sha256: string) =>
      rows.get('WHERE sha256 = @sha256 AND site_id = @siteId LIMIT 1', { sha256, siteId }) !== null,
    /** Call it in the transaction that begins to fetch the update. Repeating it changes nothing. */
    add(arrival: Omit<UpdateArrivalRecord, 'createdAt'>): void {
      db.run(insert, { ...arrival, createdAt: now() });
    },
  };
}

export function createEvaluations(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'evaluations', evaluationRecord);
  const upsert = `${insertSql('evaluations', rows.keys)} ON CONFLICT (run_id, state_sha256, site_id) DO UPDATE
    SET ${replacements(['correct', 'total', 'counts', 'createdAt'])}`;
  return {
    /** By site. */
    ofState: (runId: string, stateSha256: string) =>
      rows.all('WHERE run_id = @runId AND state_sha256 = @stateSha256 ORDER BY site_id', {
        runId,
        stateSha256,
      }),
    ofRun: (runId: string) => rows.all('WHERE run_id = @runId ORDER BY created_at, site_id', { runId }),
    upsert(evaluation: Defaulted<EvaluationRecord, 'counts' | 'createdAt'>): void {
      const createdAt = evaluation.createdAt ?? now();
      db.run(upsert, { counts: null, ...asColumns(evaluation), createdAt });
    },
  };
}
