/** A run's state as the store has it, and what changes it: one transaction for each write. */
import type { RunConfig } from '../config/run-config.ts';
import { type ErrorCode, toAppError } from '../shared/errors.ts';
import type { RoundRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Strategy } from '../strategy/strategy.ts';
import type { AnnounceBody } from '../transport/messages.ts';
import { epsilonSoFar } from './privacy-spent.ts';
import type { RunState, RunWrite } from './run-events.ts';
import { noUpdateReason } from './run-reducer.ts';

export interface RunRecords {
  readonly runId: string;
  readonly store: Store;
  readonly config: RunConfig;
  readonly strategy: Strategy;
}

/** What the screens show of a round beside what the reducer decides. */
export type RoundFacts = Pick<RoundRecord, 'stage' | 'rank' | 'trainableParameters'>;

/** Hash of the result of the last closed round, or of the state that the run started from. */
export function newestState({ runId, store }: Pick<RunRecords, 'runId' | 'store'>): string {
  const results = store.rounds.listOfRun(runId).flatMap(({ resultSha256 }) => resultSha256 ?? []);
  return (
    results.at(-1) ?? store.adapters.list({ runId, kind: 'global' }).find((row) => row.round === -1)!.sha256
  );
}

export const reportedOn = ({ runId, store }: RunRecords, stateSha256: string): string[] =>
  store.evaluations.ofState(runId, stateSha256).map(({ siteId }) => siteId);

export function loadRunState(records: RunRecords): RunState {
  const { runId, store } = records;
  const { status, round, pause } = store.runs.get(runId)!;
  const record = store.rounds.get(runId, round);
  const newest = newestState(records);
  const rows = store.roundSites.list(runId, round);
  return {
    status,
    round,
    current: record === null ? null : { ...record, sites: new Map(rows.map((row) => [row.siteId, row])) },
    newest,
    reported: new Set(reportedOn(records, newest)),
    // A round that has not opened yet begins with those that the one before waited for.
    expected: new Set(store.roundMembers.of(runId, record === null ? round - 1 : round)),
    pause,
  };
}

type Write = Exclude<RunWrite, { type: 'record-accuracy' }>;

/** What a site said cannot be written down. */
export class UnrecordableClaim extends Error {
  readonly siteId: string;

  constructor(siteId: string, cause: unknown) {
    super('a claim cannot be recorded', { cause });
    this.siteId = siteId;
  }
}

/** Reasons why nothing can be written at all. */
const ofThisMachine: ReadonlySet<ErrorCode> = new Set([
  'DISK_FULL',
  'DATABASE_BUSY',
  'DATA_FOLDER_IN_USE',
  'DATA_FOLDER_UNUSABLE',
]);

/** @throws UnrecordableClaim when it comes from a site; AppError DISK_FULL and what else the store throws */
export function writeRun(records: RunRecords, write: Write, facts?: RoundFacts): void {
  try {
    records.store.transaction(() => writeRows(records, write, facts));
  } catch (thrown) {
    const isClaim = 'siteId' in write && write.type !== 'ask-again';
    if (!isClaim || ofThisMachine.has(toAppError(thrown).code)) throw thrown;
    throw new UnrecordableClaim(write.siteId, thrown);
  }
}

function writeRows(records: RunRecords, write: Write, facts: RoundFacts | undefined): void {
  const { runId, store } = records;
  const audit = (actor: string, action: string, details: Record<string, unknown>) =>
    store.audit.append({ actor, action, details: { runId, ...details } });
  switch (write.type) {
    case 'open-round': {
      const { round, startSha256, deadlineAt, participants, members } = write;
      store.rounds.insert({ runId, round, ...facts!, startSha256, deadlineAt, participants });
      store.roundMembers.join(runId, round, members);
      store.runs.update(runId, { status: 'running', round });
      const { stage, rank } = facts!;
      const drawn = participants === null ? {} : { participants };
      audit('coordinator', 'round-opened', { round, stage, rank, state: startSha256, ...drawn });
      break;
    }
    case 'record-members':
      store.roundMembers.join(runId, write.round, write.joined);
      break;
    case 'record-departure':
      store.roundMembers.leave(runId, write.round, write.siteId);
      break;
    case 'add-participants':
      store.roundMembers.join(runId, write.round, write.added);
      store.rounds.update(runId, write.round, {
        participants: write.participants,
        deadlineAt: write.deadlineAt,
      });
      audit('coordinator', 'participants-added', { round: write.round, sites: write.added });
      break;
    case 'record-arrival':
      recordArrival(records, write.siteId, write.body);
      break;
    case 'accept-update': {
      const { siteId, body, parameters } = write;
      store.roundSites.upsert({ runId, round: body.round, siteId, status: 'received' });
      store.rounds.update(runId, body.round, { addParametersUp: parameters });
      audit(siteId, 'update-received', { round: body.round, update: body.update.sha256 });
      break;
    }
    case 'refuse-update':
    case 'reject-update': {
      const { siteId, body, reason } = write;
      const { round, update } = body;
      if (write.type === 'refuse-update') store.roundMembers.join(runId, round, [siteId]);
      store.roundSites.upsert({
        ...{ runId, round, siteId, status: 'rejected', reason, updateSha256: update.sha256 },
      });
      audit(siteId, 'update-rejected', { round, reason });
      break;
    }
    case 'drop-update': {
      const { siteId, round, reason } = write;
      store.roundSites.upsert({ runId, round, siteId, status: 'rejected', reason });
      audit(siteId, 'update-rejected', { round, reason });
      break;
    }
    case 'reopen-round': {
      const { round, deadlineAt } = write;
      store.rounds.update(runId, round, { status: 'open', deadlineAt });
      audit('coordinator', 'round-reopened', { round });
      break;
    }
    case 'move-deadline':
      store.rounds.update(runId, write.round, { deadlineAt: write.deadlineAt });
      break;
    case 'move-pause':
      store.runs.update(runId, { pause: write.pause });
      break;
    case 'ask-again': {
      const { round, siteId, updateSha256, deadlineAt } = write;
      store.roundSites.upsert({ runId, round, siteId, status: 'announced', reason: null });
      store.roundMembers.join(runId, round, [siteId]);
      if (deadlineAt !== null) store.rounds.update(runId, round, { status: 'open', deadlineAt });
      audit('coordinator', 'update-asked-again', { round, site: siteId, update: updateSha256 });
      break;
    }
    case 'pause-run': {
      const { kind, failure } = write.pause;
      store.runs.update(runId, { pause: write.pause });
      audit('coordinator', 'run-paused', { kind, ...(failure && { code: failure.code }) });
      break;
    }
    case 'continue-run':
      store.runs.update(runId, { status: write.status, pause: null, failure: null, finishedAt: null });
      audit('coordinator', 'run-continued', {});
      break;
    case 'record-progress': {
      const { round, step, steps, loss } = write.body;
      store.roundMembers.join(runId, round, [write.siteId]);
      const progress = { step, steps, meanLoss: loss, status: 'working' as const, reason: null };
      store.roundSites.upsert({ runId, round, siteId: write.siteId, ...progress });
      break;
    }
    case 'record-absence': {
      const { round, reason } = write.body;
      store.roundSites.upsert({ runId, round, siteId: write.siteId, status: 'absent', reason });
      break;
    }
    case 'record-evaluation': {
      const { stateSha256, correct, total, counts } = write.body;
      const row = { runId, siteId: write.siteId, stateSha256, correct, total };
      store.evaluations.upsert({ ...row, counts: counts ?? null });
      break;
    }
    case 'freeze-round': {
      const { round, absent } = write;
      store.rounds.update(runId, round, { status: 'aggregating' });
      for (const siteId of absent)
        store.roundSites.upsert({ runId, round, siteId, status: 'absent', reason: noUpdateReason });
      break;
    }
    case 'end-run': {
      const { status, failure } = write;
      store.runs.update(runId, { status, failure, finishedAt: store.now(), pause: null });
      const state = status === 'finished' ? { state: newestState(records) } : {};
      audit('coordinator', `run-${status}`, { ...state, ...(failure && { code: failure.code }) });
      break;
    }
  }
}

function recordArrival({ runId, store, config }: RunRecords, siteId: string, body: AnnounceBody): void {
  const { round, update, examples, meanLoss, steps } = body;
  const sent = { updateSha256: update.sha256, sizeBytes: update.sizeBytes, examples, meanLoss };
  const row = { runId, round, siteId };
  store.roundMembers.join(runId, round, [siteId]);
  store.roundSites.upsert({ ...row, ...sent, status: 'announced', reason: null, step: steps, steps });
  store.updateArrivals.add({ ...row, sha256: update.sha256 });
  if (config.privacy?.at === 'site')
    store.rounds.update(runId, round, { epsilon: epsilonSoFar(store, runId, config, round) });
}

/** Federated accuracy of the round that ended with this state; a part of the sites would mislead. */
export function recordAccuracy({ runId, store, config, strategy }: RunRecords, stateSha256: string): void {
  const round = store.rounds.listOfRun(runId).find((candidate) => candidate.resultSha256 === stateSha256);
  if (round === undefined) return;
  const rows = store.evaluations.ofState(runId, stateSha256);
  const metrics = strategy.aggregateEvaluate(config, rows);
  store.rounds.update(runId, round.round, { accuracy: metrics.accuracy, metrics });
}
