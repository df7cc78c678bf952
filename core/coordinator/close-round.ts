/** The end of a round: the updates that arrived become the next global state. */
import { countParameters } from '../lora/model-state.ts';
import { decodeModelState, encodeModelState } from '../lora/state-file.ts';
import { AppError } from '../shared/errors.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RoundSiteRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Updates } from '../strategy/strategy.ts';
import type { RunLedger } from './run-ledger.ts';

function storedUpdates(blobs: BlobStore, rows: readonly RoundSiteRecord[]): Updates {
  return {
    sites: rows.map(({ siteId, examples }) => ({ siteId, examples: examples ?? 1 })),
    async read(siteId) {
      const sha256 = rows.find((row) => row.siteId === siteId)?.updateSha256;
      if (sha256 == null) throw new AppError('NOT_FOUND', 'The update of a site is missing.');
      return decodeModelState(await blobs.read(sha256), `update of ${siteId}`);
    },
  };
}

/**
 * Deletes the sites' updates that nothing needs any more: those of closed rounds, and all of a run that is over.
 * Their hashes stay in the store. A state that is a global one as well, as with a single site, is kept.
 */
export async function discardUpdates(store: Store, blobs: BlobStore, ledger: RunLedger): Promise<void> {
  const { runId } = ledger;
  const globals = new Set(store.adapters.list({ kind: 'global' }).map((row) => row.sha256));
  for (const { round, status } of store.rounds.listOfRun(runId)) {
    if (status !== 'closed' && !ledger.isOver()) continue;
    for (const { updateSha256 } of ledger.sitesOf(round))
      if (updateSha256 !== null && !globals.has(updateSha256)) await blobs.delete(updateSha256);
  }
}

/** After this no further update is welcome, whatever happens to this process. */
export function freezeRound(
  store: Store,
  ledger: RunLedger,
  round: number,
  expected: Iterable<string>,
): void {
  const { runId } = ledger;
  store.transaction(() => {
    store.rounds.update(runId, round, { status: 'aggregating' });
    for (const siteId of expected) {
      const status = store.roundSites.get(runId, round, siteId)?.status ?? 'working';
      if (status !== 'working' && status !== 'announced') continue;
      store.roundSites.upsert({
        runId,
        round,
        siteId,
        status: 'absent',
        reason: 'No update arrived before the round closed.',
      });
    }
  });
}

/**
 * Aggregates a frozen round and records its result. Doing it again after a crash gives the same state.
 * @returns the number of sites behind the result and the share of energy that the cut to the next rank kept
 * @throws AppError UPDATE_REJECTED | SHAPE_MISMATCH | DISK_FULL
 */
export async function aggregateRound(
  store: Store,
  blobs: BlobStore,
  ledger: RunLedger,
  round: number,
): Promise<{ sites: number; energyKept: number; isLast: boolean }> {
  const { runId, config, strategy } = ledger;
  const record = store.rounds.get(runId, round)!;
  // In one order, so that sums are the same to the last bit.
  const rows = ledger
    .sitesOf(round)
    .filter((row) => row.status === 'received')
    .sort((a, b) => (a.siteId < b.siteId ? -1 : 1));
  const isLast = round + 1 >= config.rounds;
  const nextPlan = ledger.planOf(isLast ? round : round + 1);
  const global = await ledger.readState(record.startSha256);
  const { state, energyKept } = await strategy.aggregateTrain({
    config,
    plan: ledger.planOf(round),
    next: nextPlan,
    global,
    updates: storedUpdates(blobs, rows),
    memory: null,
  });
  const sha256 = await blobs.put(encodeModelState(state));
  const weight = rows.reduce((sum, row) => sum + (row.examples ?? 1), 0);
  const meanLoss = rows.reduce((sum, row) => sum + (row.meanLoss ?? 0) * (row.examples ?? 1), 0) / weight;
  const closedAt = store.now();
  store.transaction(() => {
    store.rounds.update(runId, round, {
      status: 'closed',
      resultSha256: sha256,
      closedAt,
      meanLoss,
      energyKept,
    });
    store.adapters.insert({
      sha256,
      runId,
      round,
      kind: 'global',
      rank: nextPlan.rank,
      parameters: countParameters(state),
      sizeBytes: blobs.sizeBytes(sha256),
    });
    store.runs.update(runId, isLast ? { status: 'evaluating' } : { round: round + 1 });
    store.audit.append({
      actor: 'coordinator',
      action: 'round-closed',
      details: { runId, round, sites: rows.map((row) => row.siteId), result: sha256 },
    });
  });
  return { sites: rows.length, energyKept, isLast };
}
