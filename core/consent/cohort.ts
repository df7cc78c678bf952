/** Which pictures a round may use, and which rounds used a subject. */
import type { CohortRecord, ImageRecord } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';

export interface FrozenCohort {
  cohortId: number;
  sha256: string;
  /** By image SHA-256, the canonical order. */
  images: ImageRecord[];
}

export interface CohortRequest {
  runId: string;
  round: number;
  purpose: string;
  /** ISO 8601; default is the store's clock. */
  at?: string | undefined;
  datasetId?: number | undefined;
}

export declare function freezeCohort(store: Store, request: CohortRequest): FrozenCohort;

export declare function heldOutImages(
  store: ReadOnlyStore,
  request: { purpose: string; at: string; datasetId?: number | undefined },
): ImageRecord[];

export declare function cohortsTouchedBySubject(store: ReadOnlyStore, pseudonym: string): CohortRecord[];
