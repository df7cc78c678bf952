/** Consent of a subject to a purpose: recorded as events, judged at an instant. */
import type { ConsentEventRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';

/** In a withdrawal: from every purpose. */
export const everyPurpose = '*';

export type ConsentStatus = 'active' | 'withdrawn' | 'expired' | 'none' | 'not-yet-valid';

export interface ConsentGrant {
  pseudonym: string;
  purpose: string;
  documentVersion: string;
  /** ISO 8601 date or date-time. */
  validFrom: string;
  expiresAt?: string | null | undefined;
  recordedBy: string;
}

/** Makes the subject if it is new. @throws AppError CONSENT_INVALID */
export declare function recordConsent(store: Store, grant: ConsentGrant): ConsentEventRecord;

/** Takes effect at once. Without `purpose`: from every purpose. @throws AppError SUBJECT_UNKNOWN | CONSENT_INVALID */
export declare function withdrawConsent(
  store: Store,
  withdrawal: { pseudonym: string; purpose?: string | undefined; recordedBy: string },
): ConsentEventRecord;

/** Whether the events of one subject allow `purpose` at the instant `at` (ISO 8601). */
export declare function consentStatus(
  events: readonly ConsentEventRecord[],
  purpose: string,
  at: string,
): ConsentStatus;
