/** What the API gives about one subject. Types only, as contract.ts. */

import type { ConsentTerm, PurposeConsent } from '../consent/purposes.ts';
import type { TimelineChange } from '../consent/timeline.ts';
import type { ConsentDocumentRecord, ImageRecord, Split } from '../store/records.ts';

export type { ConsentTerm, PurposeConsent } from '../consent/purposes.ts';
export type { TimelineChange } from '../consent/timeline.ts';
export type { CorrectionQuestion, CorrectionReview } from '../data/corrections.ts';

export interface TimelineRow extends ConsentTerm {
  change: TimelineChange;
  /** When it took place, ISO 8601 UTC. */
  at: string;
  /** Null: every purpose. */
  purpose: string | null;
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
  consents: PurposeConsent[];
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
    | 'id'
    | 'sourceName'
    | 'label'
    | 'split'
    | 'status'
    | 'reason'
    | 'asideKind'
    | 'width'
    | 'height'
    | 'quality'
    | 'importedAt'
  > {
  /** The crop as a `data:` address; null when there is none. */
  picture: string | null;
}
