/**
 * What may leave a site at this moment. Whoever changed a consent, and whether the site ran then: it is asked again for each
 * message before it is handed to the broker, and for each chunk of an update.
 */
import { z } from 'zod';
import { consentedSubjects, hasLostConsent } from '../consent/cohort.ts';
import { assertConsentsHold } from '../consent/site-clock.ts';
import { AppError } from '../shared/errors.ts';
import { jsonText } from '../shared/text.ts';
import type { OutboxRecord } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';

export interface LeaveCheck {
  /** Whether an update of this site may be handed out: every consent behind it holds. */
  update(sha256: string): boolean;
  /** Whether it is a part of the shared model that the coordinator named itself: it may have it back. */
  shared(sha256: string): boolean;
  /** Whether a message of the outbox may be sent. Says nothing of why: what must not leave is taken back elsewhere. */
  message(message: Pick<OutboxRecord, 'type' | 'updateSha256' | 'payload'>): boolean;
}

/** A transfer asks for hundreds of chunks; a consent that is over by the clock alone is noticed within this time. */
const keepForMs = 1_000;

const evaluationSchema = z.object({
  body: z.object({ runId: z.string(), stateSha256: z.string() }),
});

/** Consents are not relied on while the clock or their list is in doubt: nothing made of them leaves then. */
function consentsHold(store: ReadOnlyStore): boolean {
  try {
    assertConsentsHold(store);
    return true;
  } catch (thrown) {
    if (thrown instanceof AppError) return false;
    throw thrown;
  }
}

/** Delivered or to be delivered: the coordinator may ask for its bytes again while the round is open. */
const asked: ReadonlySet<string> = new Set(['announced', 'received']);

function updateMayLeave(store: ReadOnlyStore, sha256: string): boolean {
  const made = store.adapters.list({ sha256, kind: 'update' });
  return (
    consentsHold(store) &&
    made.some(({ runId, round, siteId }) => {
      const row = siteId === null ? null : store.roundSites.get(runId, round, siteId);
      if (row === null || row.updateSha256 !== sha256 || !asked.has(row.status)) return false;
      const cohort = store.cohorts
        .byRun(runId)
        .find((one) => one.round === round && one.sha256 === row.cohortSha256);
      return cohort !== undefined && !hasLostConsent(store, cohort.id);
    })
  );
}

type Counts = z.infer<typeof evaluationSchema>['body'];

/** What the counts in a message are of; null when it cannot be read. */
export function countsIn({ payload }: Pick<OutboxRecord, 'payload'>): Counts | null {
  return jsonText.pipe(evaluationSchema).safeParse(Buffer.from(payload).toString('utf8')).data?.body ?? null;
}

/**
 * Whether every consent stands behind the counts of a state: of the newest list of held-out images whose counts were queued
 * for it. What ended does not begin again; a clock or a list of consents in doubt is another matter.
 */
export function consentsStandBehind(store: ReadOnlyStore, { runId, stateSha256 }: Counts): boolean {
  const cohort = store.evaluationCohorts.ofRun(runId).findLast((one) => one.stateSha256 === stateSha256);
  // Without images there is nothing that a consent stands behind.
  if (cohort === undefined) return true;
  const members = store.evaluationCohorts.subjects(cohort.id);
  if (members.images !== cohort.size) return false;
  const consented = consentedSubjects(store, cohort.purpose, store.clock.latest());
  return members.subjects.every((id) => consented.has(id));
}

function evaluationMayLeave(store: ReadOnlyStore, message: Pick<OutboxRecord, 'payload'>): boolean {
  const counts = countsIn(message);
  return counts !== null && consentsStandBehind(store, counts) && consentsHold(store);
}

/** For the coordinator, which waits for the counts of a state. */
export const countsKeptBack = 'The counts of this site may not leave any more.';

/**
 * Takes counts out of the outbox that have not been answered and may never leave any more. They are not taken anew without
 * the person: the coordinator may have them already, and the difference would be that person's.
 * @returns what they were of
 */
export function takeBackCounts(store: Store): Counts[] {
  const waiting = store.outbox.pending().filter(({ type }) => type === 'evaluation');
  return waiting.flatMap((message) => {
    const counts = countsIn(message);
    if (counts !== null && consentsStandBehind(store, counts)) return [];
    const { messageId } = message;
    store.outbox.markAnswered({ messageId });
    return counts ?? [];
  });
}

export function createLeaveCheck(store: Store): LeaveCheck & { close(): void } {
  const known = new Map<string, { may: boolean; untilMs: number }>();
  const stopListening = store.consentEvents.onAppend(() => known.clear());
  const check: LeaveCheck = {
    shared: (sha256) => store.modelVersions.isKnown(sha256) || store.rounds.isFrozenBasePart(sha256),
    update(sha256) {
      const nowMs = performance.now();
      const found = known.get(sha256);
      if (found !== undefined && found.untilMs > nowMs) return found.may;
      const may = updateMayLeave(store, sha256);
      known.clear();
      known.set(sha256, { may, untilMs: nowMs + keepForMs });
      return may;
    },
    message({ type, updateSha256, payload }) {
      if (type === 'announce') return updateSha256 !== null && updateMayLeave(store, updateSha256);
      return type !== 'evaluation' || evaluationMayLeave(store, { payload });
    },
  };
  return { ...check, close: stopListening };
}
