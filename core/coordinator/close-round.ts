/** The end of a round: the updates that arrived become the next global state. */
import { setImmediate } from 'node:timers/promises';
import type { RunConfig } from '../config/run-config.ts';
import { decodeSafetensors } from '../lora/safetensors.ts';
import { encodeSafetensors } from '../lora/safetensors-writer.ts';
import { AppError } from '../shared/errors.ts';
import { cappedByMedian } from '../shared/median-cap.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RoundRecord, RoundSiteRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { AggregateResult, AggregateRound, ServerMemory, Updates } from '../strategy/strategy.ts';
import { encodeFrozenBase, encodeGlobalState, fileValueCount, globalForm } from '../strategy/wire/wire.ts';
import { boundedLoss } from '../transport/messages.ts';
import { epsilonSoFar } from './privacy-spent.ts';
import type { RunLedger } from './run-ledger.ts';

export interface ClosedRound {
  /** Number of sites behind the result. */
  sites: number;
  energyKept: number;
  resultSha256: string;
}

/** Read one at a time and as often as a strategy wants: memory does not grow with the number of sites. */
function storedUpdates(ledger: RunLedger, rows: readonly RoundSiteRecord[], round: number): Updates {
  return {
    sites: rows.map(({ siteId, examples }) => ({ siteId, examples: examples ?? 1 })),
    async read(siteId) {
      const sha256 = rows.find((row) => row.siteId === siteId)?.updateSha256;
      if (sha256 == null) throw new AppError('NOT_FOUND', 'An update from a site is missing.');
      return ledger.readUpdate(sha256, siteId, round, `update of ${ledger.nameOf(siteId)}`);
    },
  };
}

async function readMemory(
  store: Store,
  blobs: BlobStore,
  ledger: RunLedger,
  round: number,
): Promise<ServerMemory | null> {
  const sha256 = store.rounds.get(ledger.runId, round - 1)?.memorySha256 ?? null;
  if (sha256 === null) return null;
  return decodeSafetensors(await blobs.read(sha256), 'memory of the server optimiser').tensors;
}

/**
 * Aggregates a frozen round and records its result. Doing it again after a crash gives the same state (noise for
 * privacy is drawn anew: nothing of the first try was ever shown to anybody).
 * @throws UnmergeableUpdate for an update without which it might go on; AppError DISK_FULL
 */
export async function aggregateRound(
  store: Store,
  blobs: BlobStore,
  ledger: RunLedger,
  round: number,
  { noise, products }: Pick<AggregateRound, 'noise' | 'products'>,
): Promise<ClosedRound> {
  const { config, strategy, base } = ledger;
  // In one order, so that sums are the same to the last bit.
  const rows = ledger
    .sitesOf(round)
    .filter((row) => row.status === 'received')
    .sort((a, b) => (a.siteId < b.siteId ? -1 : 1));
  const result = await strategy.aggregateTrain({
    config,
    plan: ledger.planOf(round),
    next: ledger.planOf(round + 1),
    global: await ledger.readState(ledger.round(round).startSha256, round),
    updates: storedUpdates(ledger, rows, round),
    memory: await readMemory(store, blobs, ledger, round),
    base,
    products,
    noise,
  });
  // Encoding takes a while, too: a broker in this process speaks first.
  await setImmediate();
  const resultSha256 = await recordResult(store, blobs, ledger, { round, rows, result });
  return { sites: rows.length, energyKept: result.energyKept, resultSha256 };
}

interface RoundOutcome {
  round: number;
  rows: readonly RoundSiteRecord[];
  result: AggregateResult;
}

/** Files first, then all rows in one transaction: a crash between them leaves files that the next start sweeps away. */
async function recordResult(
  store: Store,
  blobs: BlobStore,
  ledger: RunLedger,
  { round, rows, result }: RoundOutcome,
): Promise<string> {
  const { runId, config, base } = ledger;
  const { state, frozenBaseDelta, memory, exclusions } = result;
  const plan = ledger.planOf(round + 1);
  const context = { config, plan, base };
  using _held = blobs.hold();
  const sha256 = await blobs.put(encodeGlobalState(state, context));
  const frozenBaseSha256 =
    frozenBaseDelta === null ? null : await blobs.put(encodeFrozenBase(frozenBaseDelta, context));
  const memorySha256 =
    memory === null || memory.size === 0 ? null : await blobs.put(encodeSafetensors(new Map(memory), {}));
  const change = {
    status: 'closed',
    resultSha256: sha256,
    closedAt: store.now(),
    meanLoss: meanLossOf(rows, config),
    energyKept: result.energyKept,
    frozenBaseSha256,
    memorySha256,
    driftSpread: result.drift.spread,
    driftShare: result.drift.share,
    epsilon: epsilonSoFar(store, runId, config, round),
    exclusions: [...exclusions],
    // Multi-Krum leaves those that it excludes out; a norm bound scales them down.
    contributors: rows.length - (config.robust.rule === 'multi-krum' ? exclusions.length : 0),
    layerRanks: Object.fromEntries([...state.lora].map(([module, { r }]) => [module, r])),
  } satisfies Partial<RoundRecord>;
  store.transaction(() => {
    store.rounds.update(runId, round, change);
    store.adapters.insert({
      sha256,
      runId,
      round,
      kind: 'global',
      rank: plan.rank,
      parameters: fileValueCount(state, globalForm(context)),
      sizeBytes: blobs.sizeBytes(sha256),
    });
    store.runs.update(runId, round + 1 >= config.rounds ? { status: 'evaluating' } : { round: round + 1 });
    store.audit.append({
      actor: 'coordinator',
      action: 'round-closed',
      details: {
        runId,
        round,
        sites: rows.map((row) => row.siteId),
        result: sha256,
        ...(frozenBaseSha256 === null ? {} : { frozenBaseDelta: frozenBaseSha256 }),
        ...(change.epsilon === null ? {} : { epsilon: change.epsilon, delta: config.privacy!.delta }),
        ...(exclusions.length === 0 ? {} : { excluded: exclusions.map(({ siteId }) => siteId) }),
      },
    });
  });
  return sha256;
}

/**
 * Over the images that the sites trained on, as far as these count. What a site claims stays a number of this size; null when
 * none said a loss.
 */
function meanLossOf(
  all: readonly RoundSiteRecord[],
  { weightCap }: Pick<RunConfig, 'weightCap'>,
): number | null {
  const rows = all.filter(({ meanLoss }) => meanLoss !== null);
  if (rows.length === 0) return null;
  const images = cappedByMedian(
    rows.map(({ examples }) => examples ?? 1),
    weightCap,
  );
  const weight = images.reduce((sum, count) => sum + count, 0);
  return rows.reduce((sum, row, i) => sum + boundedLoss(row.meanLoss ?? 0) * images[i]!, 0) / weight;
}
