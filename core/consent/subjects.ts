/** Subjects with their consent, as the screens list them. */
import type { ConsentEventRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { consentedSubjects } from './cohort.ts';
import { type ConsentStatus, consentStatus } from './consent.ts';

export interface SubjectRow {
  pseudonym: string;
  /** Ready pictures. */
  images: number;
  labels: string[];
  consent: ConsentStatus;
  purpose: string | null;
  documentVersion: string | null;
  expiresAt: string | null;
}

/**
 * By pseudonym.
 * @param request `purpose` is the one that the status is for; `at` is ISO 8601 UTC; `search` a part of the pseudonym
 */
export function listSubjects(
  store: ReadOnlyStore,
  request: { purpose: string; at: string; search?: string | undefined },
): SubjectRow[] {
  const events = Map.groupBy(store.consentEvents.ofPurpose(request.purpose), (event) => event.subjectId);
  return store.subjects.list({ search: request.search }).map(({ id, pseudonym, images, labels }) => {
    const own = events.get(id) ?? [];
    const consent = consentStatus(own, request.purpose, request.at);
    const shown = decidingGrant(own, request.at);
    return {
      pseudonym,
      images,
      labels,
      consent,
      purpose: shown?.purpose ?? null,
      documentVersion: shown?.documentVersion ?? null,
      expiresAt: shown?.expiresAt ?? null,
    };
  });
}

/** How many subjects and ready pictures there are, and how many of them `purpose` may use at `at` (ISO 8601 UTC). */
export function consentCounts(
  store: ReadOnlyStore,
  { purpose, at }: { purpose: string; at: string },
): { subjects: { total: number; withConsent: number }; images: { ready: number; withConsent: number } } {
  const active = consentedSubjects(store, purpose, at);
  const ready = store.images.list({ status: 'ready' });
  return {
    subjects: { total: store.subjects.count(), withConsent: active.size },
    images: { ready: ready.length, withConsent: ready.filter((image) => active.has(image.subjectId)).length },
  };
}

/** The grant in force, or else the newest one. */
function decidingGrant(events: readonly ConsentEventRecord[], at: string): ConsentEventRecord | undefined {
  const grants = events.filter((event) => event.kind === 'grant');
  return grants.findLast((grant) => grant.validFrom <= at) ?? grants.at(-1);
}
