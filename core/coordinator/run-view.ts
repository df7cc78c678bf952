/** What a coordinator shows of its federation, runs and rounds; core/api/contract.ts passes the shapes on to the screens. */
import { type RunConfig, type StartState, startStateOf } from '../config/run-config.ts';
import { belowFloor, type Floors, floorsOf } from '../evaluation/floors.ts';
import type { GalleryMetrics } from '../evaluation/merge-galleries.ts';
import { type EvaluationMetrics, evaluationMetricsSchema } from '../evaluation/metrics.ts';
import type { BaseModel } from '../models/base-model.ts';
import { pick } from '../shared/pick.ts';
import type {
  InvitationRecord,
  RoundRecord,
  RoundSiteRecord,
  RunRecord,
  RunStatus,
  SiteRecord,
} from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { type PlannedRound, planRun, type RunTotals } from '../strategy/plan.ts';
import type { Drift } from '../strategy/strategy.ts';
import type { Dismissal } from './admission.ts';
import { configIfReadable, configOf, unreadableNote } from './readable-run.ts';
import type { SiteConcerns } from './standing.ts';
import { untrainedGallery } from './untrained.ts';
import { withdrawalMarks } from './withdrawals.ts';

export interface SiteRow extends Pick<SiteRecord, 'id' | 'name' | 'joinedAt' | 'lastSeenAt'>, SiteConcerns {
  online: boolean;
  revoked: boolean;
  /** Why the coordinator does not listen to it now, and until when; null when it does. */
  dismissal: Dismissal | null;
}

export type InvitationRow = Pick<InvitationRecord, 'id' | 'siteName' | 'createdAt' | 'expiresAt' | 'usedAt'>;

export interface RunSummary
  extends Pick<RunRecord, 'id' | 'round' | 'createdAt' | 'finishedAt' | 'failure' | 'pause'> {
  /** `paused`: nothing happens in it now, see `pause`. */
  status: RunStatus | 'paused';
  /** Why only this summary can be shown; null when the run can be read. */
  unreadable: string | null;
  /** `unknown`, and as many rounds as were begun, when the run cannot be read. */
  strategy: string;
  rounds: number;
  /** The version of an earlier run that it started from; null for a fresh adapter. */
  startedFrom: StartState | null;
  /** Results that were made with images of somebody who has withdrawn since; null when there are none. */
  withdrawal: RunWithdrawal | null;
}

export interface RunWithdrawal {
  /** The first round whose result it concerns, 0-based; -1 when the run started from such a result. */
  fromRound: number;
  /** Names of the sites whose contributions to this run it concerns. */
  sites: string[];
  /** The run that it comes from, when this one started from that. */
  inheritedFrom: string | null;
  /** The same in a sentence for people. */
  note: string;
}

const siteFacts = ['siteId', 'status', 'reason', 'step', 'steps', 'meanLoss', 'examples'] as const;

export interface RoundSite extends Pick<RoundSiteRecord, (typeof siteFacts)[number]> {
  siteName: string;
}

const roundFacts = [
  'round',
  'stage',
  'rank',
  'status',
  'trainableParameters',
  'bytesUp',
  'bytesDown',
  'meanLoss',
  'accuracy',
  'energyKept',
  'epsilon',
  'layerRanks',
  'openedAt',
  'deadlineAt',
  'closedAt',
] as const;

export interface RoundRow extends Pick<RoundRecord, (typeof roundFacts)[number]> {
  /** Names of the sites drawn for this round; null when all take part. */
  participants: string[] | null;
  drift: Drift | null;
  /** Updates that a robust rule made count less or not at all. */
  exclusions: { siteName: string; reason: string }[];
  /** Of the round's result, over the sites that evaluated it; null before the first of them. */
  metrics: EvaluationMetrics | null;
  sites: RoundSite[];
}

export interface RunDetail extends RunSummary {
  config: RunConfig;
  plan: PlannedRound[];
  done: RoundRow[];
  /** Of the galleries before training; null where nobody told. */
  untrained: GalleryMetrics | null;
  /** What the untrained network did, beside the end. */
  floors: Floors;
  /** That the run ends below one of them, in a sentence; null when it does not, or has not ended. */
  belowFloor: string | null;
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

export function summarise(run: RunRecord, withdrawal: RunWithdrawal | null): RunSummary {
  const config = configIfReadable(run);
  return {
    ...pick(run, 'id', 'round', 'createdAt', 'finishedAt', 'failure', 'pause'),
    status: run.pause === null ? run.status : 'paused',
    unreadable: config === null ? unreadableNote : null,
    strategy: config?.strategy ?? 'unknown',
    rounds: config?.rounds ?? run.round + 1,
    startedFrom: config === null ? null : startStateOf(config),
    withdrawal,
  };
}

function roundRow(
  store: ReadOnlyStore,
  record: RoundRecord,
  siteNames: ReadonlyMap<string, string>,
): RoundRow {
  const nameOf = (siteId: string) => siteNames.get(siteId) ?? siteId;
  return {
    ...pick(record, ...roundFacts),
    participants: record.participants?.map(nameOf) ?? null,
    drift:
      record.driftSpread === null || record.driftShare === null
        ? null
        : { spread: record.driftSpread, share: record.driftShare },
    exclusions: (record.exclusions ?? []).map(({ siteId, reason }) => ({ siteName: nameOf(siteId), reason })),
    metrics: record.metrics === null ? null : evaluationMetricsSchema.parse(record.metrics),
    sites: store.roundSites
      .list(record.runId, record.round)
      .map((row) => ({ ...pick(row, ...siteFacts), siteName: nameOf(row.siteId) })),
  };
}

/** Null when nothing of the run is concerned. */
export function withdrawalOf(
  store: ReadOnlyStore,
  runId: string,
  marks = withdrawalMarks(store),
): RunWithdrawal | null {
  const mark = marks.get(runId);
  if (mark === undefined) return null;
  const { fromRound, siteIds, inheritedFrom } = mark;
  const sites = siteIds.map((id) => store.sites.get(id)?.name ?? id);
  const note =
    inheritedFrom === null
      ? `Somebody whose images are in the contributions of ${sites.join(', ')} has withdrawn: the results from round ${fromRound + 1} on are marked.`
      : `This run started from a result of run ${inheritedFrom} that is marked, because somebody has withdrawn: all its results are marked.`;
  return { fromRound, sites, inheritedFrom, note };
}

/** Plan, rounds so far, and totals: what was sent is counted, what it is compared with is computed from shapes. */
export function describeRun(store: ReadOnlyStore, run: RunRecord, base: BaseModel): RunDetail {
  const config = configOf(run);
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
  const untrained = untrainedGallery(store, run.id, config);
  const accuracies = done.map(({ accuracy }) => accuracy);
  const floors = floorsOf({ config, untrained, accuracies, isOver: run.status === 'finished' });
  return {
    ...summarise(run, withdrawalOf(store, run.id)),
    config,
    plan: planned.plan,
    done,
    untrained,
    floors,
    belowFloor: belowFloor(floors),
    totals: { ...planned.totals, parametersSent, bytesSent },
  };
}
