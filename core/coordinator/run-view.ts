/** What a coordinator shows of its federation, runs and rounds; core/api/contract.ts passes the shapes on to the screens. */

import { type RunConfig, runConfigSchema } from '../config/run-config.ts';
import { type EvaluationMetrics, evaluationMetricsSchema } from '../evaluation/metrics.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { RoundRecord, RunRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { type PlannedRound, planRun, type RunTotals } from '../strategy/plan.ts';
import type { Drift, Stage } from '../strategy/strategy.ts';

export interface SiteRow {
  id: string;
  name: string;
  online: boolean;
  joinedAt: string;
  lastSeenAt: string | null;
  revoked: boolean;
}

export interface InvitationRow {
  id: string;
  siteName: string;
  createdAt: string;
  expiresAt: string;
  usedAt: string | null;
}

export interface RunSummary {
  id: string;
  status: 'waiting' | 'running' | 'evaluating' | 'finished' | 'failed' | 'stopped';
  strategy: string;
  round: number;
  rounds: number;
  createdAt: string;
  finishedAt: string | null;
  failure: ErrorReport | null;
}

export interface RoundSite {
  siteId: string;
  siteName: string;
  status: 'working' | 'announced' | 'received' | 'rejected' | 'absent';
  reason: string | null;
  step: number | null;
  steps: number | null;
  meanLoss: number | null;
  examples: number | null;
}

export interface RoundRow {
  round: number;
  stage: Stage;
  rank: number;
  status: 'open' | 'aggregating' | 'closed';
  trainableParameters: number;
  bytesUp: number;
  bytesDown: number;
  meanLoss: number | null;
  accuracy: number | null;
  energyKept: number | null;
  /** Names of the sites drawn for this round; null when all take part. */
  participants: string[] | null;
  drift: Drift | null;
  /** ε of the site that took part most often, up to and with this round; null without privacy. */
  epsilon: number | null;
  /** Updates that a robust rule made count less or not at all. */
  exclusions: { siteName: string; reason: string }[];
  /** Rank of each adapted layer in the round's result; null before it closes. */
  layerRanks: Record<string, number> | null;
  /** Of the round's result, over the sites that evaluated it; null before the first of them. */
  metrics: EvaluationMetrics | null;
  openedAt: string;
  deadlineAt: string | null;
  closedAt: string | null;
  sites: RoundSite[];
}

export interface RunDetail extends RunSummary {
  config: RunConfig;
  plan: PlannedRound[];
  done: RoundRow[];
  /** `parametersSent` and `bytesSent` count what was really sent; the others are computed from shapes. */
  totals: RunTotals;
}

export interface CoordinatorOverview {
  federation: string;
  brokerAddress: string;
  sites: SiteRow[];
  invitations: InvitationRow[];
  runs: RunSummary[];
  /** The run in progress, or the newest one. */
  current: RunDetail | null;
}

export function summarise(run: RunRecord): RunSummary {
  const config = runConfigSchema.parse(run.config);
  return {
    id: run.id,
    status: run.status,
    strategy: config.strategy,
    round: run.round,
    rounds: config.rounds,
    createdAt: run.createdAt,
    finishedAt: run.finishedAt,
    failure: run.failure,
  };
}

function roundRow(
  store: ReadOnlyStore,
  record: RoundRecord,
  siteNames: ReadonlyMap<string, string>,
): RoundRow {
  const nameOf = (siteId: string) => siteNames.get(siteId) ?? siteId;
  return {
    round: record.round,
    stage: record.stage,
    rank: record.rank,
    status: record.status,
    trainableParameters: record.trainableParameters,
    bytesUp: record.bytesUp,
    bytesDown: record.bytesDown,
    meanLoss: record.meanLoss,
    accuracy: record.accuracy,
    energyKept: record.energyKept,
    participants: record.participants?.map(nameOf) ?? null,
    drift:
      record.driftSpread === null || record.driftShare === null
        ? null
        : { spread: record.driftSpread, share: record.driftShare },
    epsilon: record.epsilon,
    exclusions: (record.exclusions ?? []).map(({ siteId, reason }) => ({ siteName: nameOf(siteId), reason })),
    layerRanks: record.layerRanks,
    metrics: record.metrics === null ? null : evaluationMetricsSchema.parse(record.metrics),
    openedAt: record.openedAt,
    deadlineAt: record.deadlineAt,
    closedAt: record.closedAt,
    sites: store.roundSites.list(record.runId, record.round).map((row) => ({
      siteId: row.siteId,
      siteName: nameOf(row.siteId),
      status: row.status,
      reason: row.reason,
      step: row.step,
      steps: row.steps,
      meanLoss: row.meanLoss,
      examples: row.examples,
    })),
  };
}

/** Plan, rounds so far, and totals: what was sent is counted, what it is compared with is computed from shapes. */
export function describeRun(store: ReadOnlyStore, run: RunRecord, base: BaseModel): RunDetail {
  const config: RunConfig = runConfigSchema.parse(run.config);
  const siteNames = new Map(store.sites.list().map((site) => [site.id, site.name]));
  const records = store.rounds.listOfRun(run.id);
  const done = records.map((record) => roundRow(store, record, siteNames));
  const seen = new Set([
    ...store.roundSites.listOfRun(run.id).map((row) => row.siteId),
    ...store.evaluations.ofRun(run.id).map((row) => row.siteId),
  ]);
  // Not only those that trained: all sites fetch what travels down.
  const sites = Math.max(config.quorum, seen.size);
  const planned = planRun(config, base, sites);
  const parametersSent = records.reduce(
    (sum, record) => sum + record.parametersUp + record.parametersDown,
    0,
  );
  const bytesSent = records.reduce((sum, record) => sum + record.bytesUp + record.bytesDown, 0);
  return {
    ...summarise(run),
    config,
    plan: planned.plan,
    done,
    totals: { ...planned.totals, parametersSent, bytesSent },
  };
}
