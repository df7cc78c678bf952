/** Which images a round may use. */
import type { Alignment } from '../config/alignment.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import type { CohortRecord, CropKind, ImageRecord, Split } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { consentStatus } from './consent.ts';

export interface FrozenCohort {
  cohortId: number;
  sha256: string;
  /** In the canonical order: by SHA-256 of the image. */
  images: ImageRecord[];
}

export interface CohortRequest {
  runId: string;
  /** 0-based. */
  round: number;
  purpose: string;
  /** ISO 8601 UTC; default is the latest time that the store knows. */
  at?: string | undefined;
  datasetId?: number | undefined;
  /** Only images with one of these labels: the classes of the run. Default: all. */
  labels?: readonly string[] | undefined;
  /** Only images of which a base model with this alignment gets what it takes. Default: all. */
  alignment?: Alignment | undefined;
}

/** Squares that earlier versions cut show what one alignment shows, and no more. */
export const servesAlignment = (kind: CropKind | null, alignment: Alignment): boolean =>
  kind !== 'dlib-150' || alignment === 'dlib-150';

/** Ready training images of subjects whose consent to `purpose` is active at `at`, in canonical order. */
export function trainingImages(
  store: ReadOnlyStore,
  { purpose, labels, datasetId, alignment, at }: CohortRequest & { at: string },
): ImageRecord[] {
  return consentedImages(store, { split: 'train', purpose, at, datasetId, labels, alignment });
}

/**
 * Freezes exactly the ready training images of subjects whose consent to `purpose` is active at this instant, and
 * stores the list with its hash. Asking again for a round whose list has not changed gives the same cohort; otherwise
 * the new one supersedes the one in progress. May be empty: the caller decides what to do then.
 * @param chosen of {@link trainingImages}; all of them when absent
 */
export function freezeCohort(
  store: Store,
  request: CohortRequest,
  chosen?: readonly ImageRecord[],
): FrozenCohort {
  const { runId, round, purpose } = request;
  return store.transaction(() => {
    const at = request.at ?? store.clock.latest();
    const images = [...(chosen ?? trainingImages(store, { ...request, at }))];
    const sha256 = cohortHash(purpose, images);
    const open = cohortInProgress(store, runId, round);
    const same = store.cohorts
      .byRun(runId)
      .find((cohort) => cohort.round === round && !cohort.superseded && cohort.sha256 === sha256);
    if (open !== null && open.id !== same?.id) store.cohorts.supersede(open.id);
    if (same !== undefined) return { cohortId: same.id, sha256, images };
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
        supersedes: open === null ? [] : [open.sha256],
      },
    });
    return { cohortId: cohort.id, sha256, images };
  });
}

/** The newest cohort of a round, until an update made of it is announced; older ones that still stand were announced. */
export function cohortInProgress(store: ReadOnlyStore, runId: string, round: number): CohortRecord | null {
  const newest = store.cohorts
    .byRun(runId)
    .findLast((cohort) => cohort.round === round && !cohort.superseded);
  const isAnnounced = store.roundSites
    .list(runId, round)
    .some((row) => row.updateSha256 !== null && row.cohortSha256 === newest?.sha256);
  return newest === undefined || isAnnounced ? null : newest;
}

/**
 * Whether somebody's consent to the purpose of a cohort is not active any more: withdrawn, expired, or replaced by one
 * of another term. An image that was corrected to be another person's needs that person's consent, too.
 * @param at ISO 8601 UTC; default is the latest time that the store knows
 */
export function hasLostConsent(store: ReadOnlyStore, cohortId: number, at = store.clock.latest()): boolean {
  const { purpose, size } = store.cohorts.get(cohortId)!;
  // Somebody was erased.
  if (store.cohorts.members(cohortId).length !== size) return true;
  const events = Map.groupBy(store.consentEvents.ofPurpose(purpose), (event) => event.subjectId);
  return store.cohorts
    .subjects(cohortId)
    .some((subjectId) => consentStatus(events.get(subjectId) ?? [], purpose, at) !== 'active');
}

/**
 * Whether what a cohort holds was corrected since it was frozen: another label, another person, or an image that is held
 * out now. What was trained on it would be trained on something wrong.
 */
export function isOutdated(store: ReadOnlyStore, cohortId: number): boolean {
  if (!store.imageCorrections.touch(cohortId)) return false;
  const { purpose, sha256 } = store.cohorts.get(cohortId)!;
  const members = store.cohorts.members(cohortId);
  const training = members.flatMap(({ imageId }) => {
    const image = store.images.get(imageId);
    return image?.split === 'train' ? [image] : [];
  });
  return training.length < members.length || cohortHash(purpose, training.sort(canonicalOrder)) !== sha256;
}

/** The next instant at which the clock alone may change somebody's consent to a purpose; null when there is none. */
export function nextConsentChange(
  store: ReadOnlyStore,
  purpose: string,
  after = store.clock.latest(),
): string | null {
  const instants = store.consentEvents
    .ofPurpose(purpose)
    .flatMap(({ kind, validFrom, expiresAt }) => (kind === 'grant' ? [validFrom, expiresAt] : []));
  return instants.reduce<string | null>(
    (next, at) => (at !== null && at > after && (next === null || at < next) ? at : next),
    null,
  );
}

/** Ready held-out images of subjects whose consent to `purpose` is active at `at` (ISO 8601 UTC), in canonical order. */
export function heldOutImages(
  store: ReadOnlyStore,
  request: Pick<CohortRequest, 'purpose' | 'datasetId' | 'labels' | 'alignment'> & { at: string },
): ImageRecord[] {
  return consentedImages(store, { ...request, split: 'test' });
}

/**
 * Writes down whose held-out images a state was evaluated on. Call it in the transaction that sends the counts.
 * @param images of {@link heldOutImages}
 * @returns false, and nothing is written, when somebody's consent does not hold any more
 */
export function recordEvaluationCohort(
  store: Store,
  { runId, stateSha256, purpose }: { runId: string; stateSha256: string; purpose: string },
  images: readonly ImageRecord[],
): boolean {
  const consented = consentedSubjects(store, purpose, store.clock.latest());
  if (images.some(({ subjectId }) => !consented.has(subjectId))) return false;
  if (images.length === 0) return true;
  const sha256 = cohortHash(purpose, images);
  const members = images.map(({ id, subjectId }) => ({ imageId: id, subjectId }));
  store.evaluationCohorts.insert({ runId, stateSha256, sha256, purpose, members });
  store.audit.append({
    actor: 'anneal',
    action: 'cohort.evaluated',
    details: {
      ...{ runId, state: stateSha256, purpose, cohortSha256: sha256, images: images.length },
      subjects: new Set(members.map((member) => member.subjectId)).size,
    },
  });
  return true;
}

/**
 * Cohorts that hold an image of the subject and may have left their mark: superseded ones did not.
 * @throws AppError SUBJECT_UNKNOWN
 */
export function cohortsTouchedBySubject(store: ReadOnlyStore, pseudonym: string): CohortRecord[] {
  const subject = store.subjects.byPseudonym(pseudonym);
  if (subject === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${pseudonym}".`);
  return store.cohorts.bySubject(subject.id).filter((cohort) => !cohort.superseded);
}

/** Ids of the subjects whose consent to `purpose` is active at `at` (ISO 8601 UTC). */
export function consentedSubjects(store: ReadOnlyStore, purpose: string, at: string): Set<number> {
  const bySubject = Map.groupBy(store.consentEvents.ofPurpose(purpose), (event) => event.subjectId);
  const active = [...bySubject].filter(([, events]) => consentStatus(events, purpose, at) === 'active');
  return new Set(active.map(([subjectId]) => subjectId));
}

function consentedImages(
  store: ReadOnlyStore,
  wanted: Pick<CohortRequest, 'purpose' | 'datasetId' | 'labels' | 'alignment'> & {
    split: Split;
    at: string;
  },
): ImageRecord[] {
  const { split, purpose, at, datasetId, alignment } = wanted;
  const subjects = consentedSubjects(store, purpose, at);
  const labels = wanted.labels === undefined ? null : new Set(wanted.labels);
  return store.images
    .list({ split, status: 'ready', datasetId })
    .filter((image) => subjects.has(image.subjectId) && (labels === null || labels.has(image.label)))
    .filter(({ cropKind }) => alignment === undefined || servesAlignment(cropKind, alignment))
    .sort(canonicalOrder);
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

function canonicalOrder(a: ImageRecord, b: ImageRecord): number {
  return a.sha256 < b.sha256 ? -1 : a.sha256 > b.sha256 ? 1 : a.id - b.id;
}
