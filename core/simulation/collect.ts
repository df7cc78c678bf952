/** What a run's stores say about it, as a line of the results. */
import type { RoundRecord as StoredRound } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import type { PlannedRun } from '../strategy/plan.ts';
import { type FinishedRun, metricsSchema, type RoundRecord, type SiteRecord } from './record.ts';
import type { SiteImages } from './spread.ts';

/** Closed rounds of a run, by round. */
export function collectRounds(store: ReadOnlyStore, runId: string): RoundRecord[] {
  return store.rounds
    .listOfRun(runId)
    .filter(({ status }) => status === 'closed')
    .map((round) => {
      const taken = store.roundSites.list(runId, round.round).filter(({ status }) => status === 'received');
      return roundOf(round, taken.length);
    });
}

function roundOf(stored: StoredRound, sites: number): RoundRecord {
  const { layerRanks } = stored;
  const ranks = layerRanks === null ? [] : Object.values(layerRanks);
  return {
    round: stored.round,
    stage: stored.stage,
    rank: stored.rank,
    rankSum: ranks.length === 0 ? null : ranks.reduce((sum, rank) => sum + rank, 0),
    layerRanks: ranks.length === 0 ? null : layerRanks,
    trainableParameters: stored.trainableParameters,
    bytesUp: stored.bytesUp,
    bytesDown: stored.bytesDown,
    parametersUp: stored.parametersUp,
    parametersDown: stored.parametersDown,
    meanLoss: stored.meanLoss,
    accuracy: stored.accuracy,
    metrics: metricsSchema.nullable().catch(null).parse(stored.metrics),
    energyKept: stored.energyKept,
    driftSpread: stored.driftSpread,
    driftShare: stored.driftShare,
    epsilon: stored.epsilon,
    sites,
    exclusions: stored.exclusions ?? [],
    wallMs: Math.max(0, Date.parse(stored.closedAt ?? stored.openedAt) - Date.parse(stored.openedAt)),
  };
}

/** How good the last state was, and the best one. */
export function finalOf(rounds: readonly RoundRecord[], stateSha256: string): FinishedRun['final'] {
  const last = rounds.at(-1);
  const scored = rounds.filter((round) => round.accuracy !== null);
  // The earliest of several that are equally good.
  const best = scored.reduce<RoundRecord | null>(
    (a, b) => (a === null || b.accuracy! > a.accuracy! ? b : a),
    null,
  );
  return {
    accuracy: last?.accuracy ?? null,
    metrics: last?.metrics ?? null,
    bestAccuracy: best?.accuracy ?? null,
    bestRound: best?.round ?? null,
    stateSha256,
  };
}

/** Sums over all rounds and sites, beside what two baselines would have sent. */
export function totalsOf(
  rounds: readonly RoundRecord[],
  planned: PlannedRun['totals'],
  times: { wallMs: number; computeMs: number },
): FinishedRun['totals'] {
  const sum = (field: 'bytesUp' | 'bytesDown' | 'parametersUp' | 'parametersDown') =>
    rounds.reduce((total, round) => total + round[field], 0);
  const [bytesUp, bytesDown] = [sum('bytesUp'), sum('bytesDown')];
  const [parametersUp, parametersDown] = [sum('parametersUp'), sum('parametersDown')];
  return {
    bytesUp,
    bytesDown,
    bytesSent: bytesUp + bytesDown,
    parametersUp,
    parametersDown,
    parametersSent: parametersUp + parametersDown,
    fedavgFullParameters: planned.fedavgFullParameters,
    fixedRankParameters: planned.fixedRankParameters,
    ...times,
  };
}

export function describeSites(sites: readonly SiteImages[]): SiteRecord[] {
  return sites.map(({ siteId, train, evaluation }) => ({
    siteId,
    train: countLabels(train),
    evaluation: countLabels(evaluation),
  }));
}

function countLabels(images: readonly { label: string }[]): Record<string, number> {
  const byLabel = Map.groupBy(images, ({ label }) => label);
  return Object.fromEntries(
    [...byLabel]
      .map(([label, members]) => [label, members.length] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}
