/**
 * Models that were made with a contribution whose subject has withdrawn since. Marks are not stored: they follow from what
 * the sites told, from the updates that were taken, and from which runs start where others ended.
 */
import { runConfigSchema, startStateOf } from '../config/run-config.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import type { WithdrawnBody } from '../transport/messages.ts';
import { maxUpdatesPerRound } from './update-receiver.ts';

/** Which results of a run are marked, and by whom. */
export interface WithdrawalMark {
  /** The first round whose result is marked, 0-based; -1 when the run starts from a marked state. */
  fromRound: number;
  /** Ids of the sites with such a contribution to this run. */
  siteIds: string[];
  /** The run that this one starts from, when that mark came down from there. */
  inheritedFrom: string | null;
}

/**
 * A site may only name updates of its own, and no more than it may send. Repeating changes nothing.
 * @returns whether it is new
 */
export function recordWithdrawal(store: Store, siteId: string, body: WithdrawnBody): boolean {
  const { runId, round, updateSha256 } = body;
  return store.transaction(() => {
    if (store.rounds.get(runId, round) === null) return false;
    const others = store.updateArrivals
      .listOfRun(runId)
      .some((arrival) => arrival.sha256 === updateSha256 && arrival.siteId !== siteId);
    const known = store.withdrawalNotices.ofSite(runId, round, siteId);
    if (others || known.length >= maxUpdatesPerRound) return false;
    if (!store.withdrawalNotices.add({ runId, round, siteId, updateSha256 })) return false;
    const details = { runId, round, update: updateSha256 };
    store.audit.append({ actor: siteId, action: 'withdrawal-told', details });
    return true;
  });
}

/** By run. At a site: by what it told itself. */
export function withdrawalMarks(store: ReadOnlyStore): Map<string, WithdrawalMark> {
  const marks = new Map<string, WithdrawalMark>();
  for (const { runId, round, siteId } of store.withdrawalNotices.inModels()) {
    const mark = marks.get(runId) ?? { fromRound: round, siteIds: [], inheritedFrom: null };
    if (!mark.siteIds.includes(siteId)) mark.siteIds.push(siteId);
    marks.set(runId, mark);
  }
  // A run starts from what was there before it.
  for (const { id, config } of store.runs.list().reverse()) {
    const start = startStateOf(runConfigSchema.safeParse(config).data ?? {});
    if (start === null || !isMarked(marks.get(start.runId), start.round)) continue;
    const own = marks.get(id)?.siteIds ?? [];
    marks.set(id, { fromRound: -1, siteIds: own, inheritedFrom: start.runId });
  }
  return marks;
}

/** @param round whose result it is; -1 for the state with which the run starts */
export const isMarked = (mark: WithdrawalMark | undefined, round: number): boolean =>
  mark !== undefined && round >= mark.fromRound;
