/**
 * What the API gives to the screens and to the command line. The renderer imports these types only.
 * Procedure names and inputs are in router.ts.
 */

import type { LeakReport } from '../config/leak-report.ts';
import type { Role } from '../config/roles.ts';
import type { WirePrecision } from '../config/round-options.ts';
import type { SettingLine } from '../config/run-config.ts';
import type { SitePolicy } from '../config/site-policy.ts';
import type { ConsentStatus } from '../consent/consent.ts';
import type { PurposeConsent } from '../consent/purposes.ts';
import type { RunSummary } from '../coordinator/run-view.ts';
import type { DuplicateQuestion } from '../data/duplicates.ts';
import type { ImportProgress, QualityRow } from '../data/import-folder.ts';
import type { Contract } from '../policy/contract.ts';
import type { Difference } from '../policy/differences.ts';
import type { ImportProgress as ModelProgress } from '../policy/leak-test-service.ts';
import type { LeavingRounds, LeavingTensor } from '../policy/leaves.ts';
import type { Limits } from '../policy/standing-approval.ts';
import type { WhatLeaves } from '../policy/what-leaves.ts';
import type { Erasure } from '../rights/erase.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { CurrentPolicy } from '../site/policy.ts';
import type { SiteActivity } from '../site/round-reducer.ts';
import type { AuditVerification } from '../store/audit.ts';
import type {
  AdapterRecord,
  AsideKind,
  AuditRecord,
  DecisionRecord,
  ImageQuality,
  ProposalRecord,
  Split,
} from '../store/records.ts';
import type { Restored } from '../store/restored.ts';
import type { ClockDifference } from '../transport/messages.ts';
import type { ConsentOutlook } from './consent-notes.ts';

export type { BackupState } from '../backup/backups.ts';
export type { BackupProgress } from '../backup/progress.ts';
export type { WrittenBackup } from '../backup/write-backup.ts';
export type { ConsentsReport } from '../data/consent-table.ts';
export type { ImportProgress, ImportReport, QualityRow, SetAsideRow } from '../data/import-folder.ts';
export type { ImportPreview, PreviewRow, Thumbnail } from '../data/import-preview.ts';
export type { TableRequest } from '../data/tables/request.ts';
export type { ConsentOutlook } from './consent-notes.ts';
export type * from './models-contract.ts';
export type { AsideKind, DuplicateQuestion, ImageQuality };

/** All images with figures, and pairs of ready images that are nearly the same. */
export interface ImagesView {
  quality: (QualityRow & { id: number; split: Split })[];
  duplicates: readonly DuplicateQuestion[];
}

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
  /** When the newest backup that is known was made, ISO 8601 UTC; null: never. */
  lastBackupAt: string | null;
  /** What is wrong with where this side and the others stand (clocks, copies, restored data), the most pressing first. */
  concerns: ErrorReport[];
  /** A site's clock beside the coordinator's; null until it was measured, and at a coordinator. */
  clock: ClockDifference | null;
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

export type { Restored } from '../store/restored.ts';

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
  /** Of the run, for its letter; null until this site could derive the contract. */
  contractSha256: string | null;
  approval: ApprovalCard | null;
  /** Consents that end, and what that means for the run in progress. */
  consents: ConsentOutlook;
  /** The store went back in time, and nobody has confirmed it yet; null else. */
  restored: Restored | null;
}

/** A class of the run, with what this site has of it. */
export interface ClassOnCard {
  label: string;
  /** With an active consent to the purpose, for training. */
  images: number;
  subjects: number;
  heldOut: number;
  /** False where the site's policy asks for more subjects, or there is nothing of it. */
  trains: boolean;
}

/** A letter: what a run asks of this site, before anybody here has decided. */
export interface ApprovalCard extends WhatLeaves {
  /** What is approved or declined. */
  contractSha256: string;
  runId: string;
  askedAt: string;
  title: string;
  note: string;
  /** Name of the federation. */
  askedBy: string;
  purpose: string;
  classes: ClassOnCard[];
  /** `all`: for training, whatever their label or consent. */
  images: { used: number; all: number; heldOut: number };
  subjects: { used: number; all: number };
  /** Why this site would not train on what it has now; null when it would. */
  cannotTrain: ErrorReport | null;
  base: Contract['baseModel'] & {
    importedAt: string | null;
    isBuiltIn: boolean;
    /** Null while it is being measured. */
    leak: LeakReport | null;
  };
  leavingRounds: LeavingRounds[];
  leavingTensors: LeavingTensor[];
  precision: WirePrecision;
  /** Over the whole run, at most. */
  bytes: number;
  rank: { first: number; last: number };
  bytesPerRound: { first: number; last: number };
  rounds: number;
  minContributors: number;
  evaluations: string;
  /** Every setting that means something in the run. */
  settings: SettingLine[];
  /** In what it goes beyond what was approved here last; empty when nothing was. */
  beyondEarlier: Difference[];
  /** What "approve within these limits" begins with. */
  limits: EditableLimits;
  policyVersion: number;
  /** What a person should know of the consents here before deciding; nothing in most cases. */
  consentNotes: string[];
}

export type EditableLimits = Required<Omit<Limits, 'runs' | 'until'>>;
export type { Limits };

/** What people here said to a run. */
export interface DecisionRow extends Omit<DecisionRecord, 'standing'> {
  title: string;
  purpose: string;
  /** With "approved within limits". */
  standing: (EditableLimits & { runs: number; until: string | null; runsUsed: number }) | null;
}

export interface SiteRequests {
  /** The one that waits for a person. */
  pending: ApprovalCard | null;
  decisions: DecisionRow[];
}

export interface SitePolicyView extends Omit<CurrentPolicy, 'policy'> {
  /** What holds; with a `problem`, what was stored, as far as it can be read. */
  policy: SitePolicy;
  defaults: SitePolicy;
  /** Why the stored policy does not hold; null when it does. */
  problem: ErrorReport | null;
}

/** Who uses these screens. */
export interface Me {
  /** `must-change`: signed in with a one-time password. */
  state: 'open' | 'locked' | 'must-change' | 'signed-out';
  /** As the audit trail names them. */
  actor: string | null;
  displayName: string | null;
  roles: Role[];
  /** Signed in with a user account, which can be locked and signed out of. */
  hasPassword: boolean;
  /** Who may go on without an account over this way in; null when everybody signs in. */
  owner: string | null;
  hasAccounts: boolean;
  lockAfterMinutes: number;
}

/** An act that waits for a second person. */
export interface ProposalRow
  extends Pick<ProposalRecord, 'id' | 'kind' | 'input' | 'proposedBy' | 'proposedAt' | 'expiresAt'> {
  title: string;
  /** Whom to erase; null when they are not here, or with another kind. */
  pseudonym: string | null;
  isMine: boolean;
  /** Why the person who asks can't confirm it; null when they can, given the role. */
  fault: string | null;
}

export type { Account, HandedOut } from '../people/accounts.ts';
export type { PeopleSettings } from '../people/people.ts';

export interface SubjectRow {
  pseudonym: string;
  images: number;
  labels: string[];
  /** Every purpose that something is recorded about, by name. */
  consents: PurposeConsent[];
  /** Of the purpose of the run in progress; of `federated-training` while there is none. */
  consent: ConsentStatus;
  /** Null when nothing was ever recorded about that purpose. */
  purpose: string | null;
  documentVersion: string | null;
  expiresAt: string | null;
}

/** The time by which consents are judged. */
export interface SiteTime {
  /** What the clock of this machine shows, ISO 8601 UTC. */
  now: string;
  /** IANA name: a date means a day there. */
  timeZone: string;
  /** CLOCK_RAN_BACK, while the clock is behind what it has shown before. */
  problem: ErrorReport | null;
}

export type { ConsentTerm, PurposeConsent } from '../consent/purposes.ts';
export type { TraceReport } from '../consent/trace.ts';
export type { SubjectReport } from '../rights/subject-report.ts';

export interface ErasedSubject {
  erasure: Erasure;
  /** PDF, base64. */
  certificate: string;
  /** Known backups from before: the person is in them until they are deleted. */
  backupsBefore: number;
}

export interface RetentionState {
  /** Subjects whose crops are due, but by a clock that is in doubt. */
  waiting: number;
  /** When crops were deleted last; null: never. */
  deleted: string | null;
  unfinishedErasures: number;
}

export type { RunPlan, SiteAnswer } from '../coordinator/coordinator.ts';
export type {
  CoordinatorOverview,
  InvitationRow,
  RoundRow,
  RoundSite,
  RunDetail,
  RunSummary,
  SiteRow,
} from '../coordinator/run-view.ts';
export interface AdapterRow extends AdapterRecord {
  /** It was made with images of somebody who has withdrawn since, or builds upon such a one. */
  withdrawn: boolean;
}

export type { PlannedRound } from '../strategy/plan.ts';
export type AuditRow = Omit<AuditRecord, 'previousHash' | 'hash'>;

/** Entries, and whether the whole trail holds. */
export interface AuditPage extends Omit<AuditVerification, 'rows'> {
  rows: AuditRow[];
}

/** Server-sent events: a hint to read again, with live progress where there is some. */
export type AgentEvent =
  | {
      type: 'changed';
      what: 'status' | 'run' | 'sites' | 'dataset' | 'adapters' | 'audit' | 'backup' | 'models';
    }
  | {
      type: 'progress';
      runId: string;
      round: number;
      siteId: string;
      step: number;
      steps: number;
      loss: number | null;
    }
  | { type: 'import'; progress: ImportProgress }
  | { type: 'model-import'; progress: ModelProgress };
