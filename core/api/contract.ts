/**
 * What the API gives to the screens and to the command line. The renderer imports these types only.
 * Procedure names and inputs are in router.ts.
 */
import type { SettingLine } from '../config/run-config.ts';
import type { RunSummary } from '../coordinator/run-view.ts';
import type { ImportProgress } from '../data/import-folder.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { SiteActivity } from '../site/round-reducer.ts';
import type { AuditRecord } from '../store/records.ts';

export type { ImportProgress, ImportReport, SetAsideRow } from '../data/import-folder.ts';

export type AgentMode = 'unset' | 'site' | 'coordinator';

export interface AgentStatus {
  mode: AgentMode;
  version: string;
  dataFolder: string;
  /** Name of this site or of the federation that this coordinator runs. */
  name: string | null;
  federation: string | null;
  broker: { state: 'none' | 'connecting' | 'online' | 'offline'; address: string | null };
  /** The newest problem that a person should know of. */
  problem: ErrorReport | null;
  /** The demo that was started from these screens; it has screens of its own. */
  demo: DemoStatus | null;
}

export interface DemoStatus {
  state: 'running' | 'finished';
  /** Loopback address of the demo's own screens, and the code that they ask for. */
  url: string;
  accessCode: string;
  /** Folder of the report, once there is one. */
  outFolder: string | null;
}

export interface SiteOverview {
  siteId: string | null;
  joinedAt: string | null;
  images: { ready: number; setAside: number; withConsent: number };
  subjects: { total: number; withConsent: number };
  /** What the site does now, in words for the screen. */
  activity: 'not-joined' | SiteActivity;
  progress: { step: number; steps: number; loss: number; imagesPerSecond: number } | null;
  /** One plain sentence on why the site waits although a round is open; null when it does not. */
  notice: string | null;
  run: RunSummary | null;
  approval: ApprovalCard | null;
}

/** What a site sees before it first trains for a federation. */
export interface ApprovalCard {
  runId: string;
  askedBy: string;
  tensors: number;
  rank: { first: number; last: number };
  bytesPerRound: { first: number; last: number };
  rounds: number;
  stays: string[];
  leaves: string[];
  /** Every setting that means something in the run. */
  settings: SettingLine[];
}

export interface SubjectRow {
  pseudonym: string;
  images: number;
  labels: string[];
  consent: 'active' | 'withdrawn' | 'expired' | 'none' | 'not-yet-valid';
  purpose: string | null;
  documentVersion: string | null;
  expiresAt: string | null;
}

export type { TraceReport } from '../consent/trace.ts';

export type {
  CoordinatorOverview,
  InvitationRow,
  RoundRow,
  RoundSite,
  RunDetail,
  RunSummary,
  SiteRow,
} from '../coordinator/run-view.ts';
export type { AdapterRecord as AdapterRow } from '../store/records.ts';
export type { PlannedRound } from '../strategy/plan.ts';
export type AuditRow = Omit<AuditRecord, 'previousHash' | 'hash'>;

export interface AuditPage {
  rows: AuditRow[];
  /** Whether the hash chain is whole up to the newest row. */
  intact: boolean;
}

/** Server-sent events: a hint to read again, with live progress where there is some. */
export type AgentEvent =
  | { type: 'changed'; what: 'status' | 'run' | 'sites' | 'dataset' | 'adapters' | 'audit' }
  | {
      type: 'progress';
      runId: string;
      round: number;
      siteId: string;
      step: number;
      steps: number;
      loss: number;
    }
  | { type: 'import'; progress: ImportProgress };
