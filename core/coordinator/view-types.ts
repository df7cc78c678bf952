/** Shapes of what a coordinator shows; core/api/contract.ts passes them on to the screens. */

import type { RunConfig } from '../config/run-config.ts';
import type { EvaluationMetrics } from '../evaluation/metrics.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { PlannedRound, RunTotals } from '../strategy/plan.ts';
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
