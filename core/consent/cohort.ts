/** Which pictures a round may use. */
import { hashJson } from '../shared/hash.ts';
import type { ImageRecord, Split } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { consentStatus } from './consent.ts';

export interface FrozenCohort {
  cohortId: number;
  sha256: string;
  /** In the canonical order: by SHA-256 of the picture. */
  images: ImageRecord[];
}

export interface CohortRequest {
  runId: string;
  /** 0-based. */
  round: number;
  purpose: string;
  /** ISO 8601 UTC; default is the store's clock. */
  at?: string | undefined;
  datasetId?: number | undefined;
}

/**
 * Freezes exactly the ready training pictures of subjects whose consent to `purpose` is active at this instant, and
 * stores the list with its hash. Asking again for a round whose list has not changed gives the same cohort; otherwise
 * the new one supersedes those of the round from which no update was announced. May be empty: the caller decides
 * what to do then.
 */
export function freezeCohort(store: Store, request: CohortRequest): FrozenCohort {
  const { runId, round, purpose, datasetId } = request;
  return store.transaction(() => {
    const at = request.at ?? store.now();
    const images = consentedImages(store, { split: 'train', purpose, at, datasetId });
    const sha256 = cohortHash(purpose, images);
    const earlier = store.cohorts
      .byRun(runId)
      .filter((cohort) => cohort.round === round && !cohort.superseded);
    const same = earlier.find((cohort) => cohort.sha256 === sha256);
    if (same !== undefined) return { cohortId: same.id, sha256, images };

    const announced = new Set(
      store.roundSites
        .list(runId, round)
        .flatMap((row) => (row.updateSha256 === null ? [] : [row.cohortSha256])),
    );
    const superseded = earlier.filter((cohort) => !announced.has(cohort.sha256));
    for (const cohort of superseded) store.cohorts.supersede(cohort.id);
    const members = images.map(({ id, subjectId }) => ({ imageId: id, subjectId }));
    const cohort = store.cohorts.insert({ runId, round, sha256, purpose, frozenAt: at, members });
    store.audit.append({
      actor: 'anneal',
      action: 'cohort.frozen',
      details: {
        runId,
        round,
        purpose,
        cohortSha256: sha256,
        images: images.length,
        subjects: new Set(members.map((member) => member.subjectId)).size,
        supersedes: superseded.map((old) => old.sha256),
      },
    });
    return { cohortId: cohort.id, sha256, images };
  });
}

/** Ready held-out pictures of subjects whose consent to `purpose` is active at `at` (ISO 8601 UTC), in canonical order. */
export function heldOutImages(
  store: ReadOnlyStore,
  request: { purpose: string; at: string; datasetId?: number | undefined },
): ImageRecord[] {
  return consentedImages(store, { ...request, split: 'test' });
}

/** Ids of the subjects whose consent to `purpose` is active at `at` (ISO 8601 UTC). */
export function consentedSubjects(store: ReadOnlyStore, purpose: string, at: string): Set<number> {
  const bySubject = Map.groupBy(store.consentEvents.ofPurpose(purpose), (event) => event.subjectId);
  const active = [...bySubject].filter(([, events]) => consentStatus(events, purpose, at) === 'active');
  return new Set(active.map(([subjectId]) => subjectId));
}

function consentedImages(
  store: ReadOnlyStore,
  {
    split,
    purpose,
    at,
    datasetId,
  }: { split: Split; purpose: string; at: string; datasetId?: number | undefined },
): ImageRecord[] {
  const subjects = consentedSubjects(store, purpose, at);
  return store.images
    .list({ split, status: 'ready', datasetId })
    .filter((image) => subjects.has(image.subjectId))
    .sort((a, b) => compare(a.sha256, b.sha256) || a.id - b.id);
}

/** SHA-256 of the canonical JSON of purpose and members; says what was learnt from, of whom, under which label. */
function cohortHash(purpose: string, images: readonly ImageRecord[]): string {
  const members = images.map(({ sha256, cropSha256, label, pseudonym }) => ({
    sha256,
    cropSha256,
    label,
    pseudonym,
  }));
  return hashJson({ purpose, images: members });
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
