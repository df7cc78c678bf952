/** What the API gives about one subject. Types only, as contract.ts. */
import type { TimelineChange } from '../consent/timeline.ts';
import type { ConsentDocumentRecord, ConsentGiver, ImageRecord, Split } from '../store/records.ts';
import type { SubjectRow } from './contract.ts';

export type { TimelineChange } from '../consent/timeline.ts';
export type { CorrectionQuestion, CorrectionReview } from '../data/corrections.ts';

/** From when until when a consent holds. */
export interface ConsentTerm {
  eventId: number;
  documentVersion: string | null;
  /** ISO 8601 UTC, and the day that begins with it at this site; null within a day. */
  from: string;
  firstDay: string | null;
  /** First instant at which it holds no more, and the last whole day before it. */
  until: string | null;
  lastDay: string | null;
}

/** What a subject consented to, for one purpose, now. */
export interface SubjectPurpose {
  purpose: string;
  status: SubjectRow['consent'];
  /** The consent that holds, or held last; null when none has begun, or all were withdrawn. */
  term: ConsentTerm | null;
  /** The one that begins next. */
  next: ConsentTerm | null;
  /** The newest one; older consents do not count. */
  withdrawal: { id: number; validFrom: string; recordedAt: string; recordedBy: string } | null;
}

export interface TimelineRow extends ConsentTerm {
  change: TimelineChange;
  /** When it took place, ISO 8601 UTC. */
  at: string;
  /** Null: every purpose. */
  purpose: string | null;
  recordedBy: string;
  givenBy: ConsentGiver | null;
  verifiedOn: string | null;
  reference: string | null;
  documents: Pick<
    ConsentDocumentRecord,
    'id' | 'sha256' | 'mediaType' | 'sizeBytes' | 'addedAt' | 'addedBy'
  >[];
}

/** Images that were corrected together. */
export interface SubjectCorrection {
  correctedAt: string;
  correctedBy: string;
  /** Of `correctionReasons` in core/config. */
  reason: string;
  note: string | null;
  images: number;
  label: { from: string[]; to: string } | null;
  split: { from: Split[]; to: Split } | null;
  subject: { from: string[]; to: string } | null;
}

export interface SubjectDetail {
  pseudonym: string;
  createdAt: string;
  images: { train: number; test: number; setAside: number };
  purposes: SubjectPurpose[];
  /** Oldest first. */
  timeline: TimelineRow[];
  /** Newest first. */
  corrections: SubjectCorrection[];
  /** That an image may have: of the run in progress and of other images here. */
  labels: string[];
}

export interface SubjectImage
  extends Pick<
    ImageRecord,
    'id' | 'sourceName' | 'label' | 'split' | 'status' | 'reason' | 'width' | 'height' | 'importedAt'
  > {
  /** The crop as a `data:` address; null when there is none. */
  picture: string | null;
}

export type { TraceReport } from '../consent/trace.ts';
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
