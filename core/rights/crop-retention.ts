/**
 * How long crops stay. One is for training, and goes when nobody may train on it any more: at once when the person
 * withdraws the last consent, when the last one runs out, and after days that the site's policy gives. Unless the person
 * chose that it stays. The row stays, set aside, so that the same photograph can be imported again.
 */
import { consentStatus, countingGrants } from '../consent/consent.ts';
import { purposesOf } from '../consent/purposes.ts';
import { currentPolicy } from '../site/policy.ts';
import type { StoredCrop } from '../store/image-tables.ts';
import type { ConsentEventRecord } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';

export const cropDeletedReason = 'consent ended: the crop was deleted';
const neverConsentedReason = 'no consent was ever recorded: the crop was deleted';

const dayMs = 24 * 3_600_000;
export const actions = { deleted: 'crops.deleted', kept: 'crops.kept', released: 'crops.released' } as const;

export interface Due {
  subjectId: number;
  images: StoredCrop[];
  /** ISO 8601 UTC. */
  at: string;
  /** Whether the clock alone makes it due: then it waits while the clock is in doubt. A withdrawal is an act. */
  byClock: boolean;
  reason: string;
}

export interface RetentionRules {
  /** Days after the end of the last consent. */
  keepCropsDays: number;
  /** Days after the import of an image of a subject without any consent; 0 for no limit. */
  maxDaysWithoutConsent: number;
}

const later = (at: string, days: number) => new Date(Date.parse(at) + days * dayMs).toISOString();

/** Every crop that goes some day, as things stand. @param only of this subject */
export function dueCrops(store: ReadOnlyStore, rules: RetentionRules, only?: number): Due[] {
  const images = Map.groupBy(store.images.crops(only), ({ subjectId }) => subjectId);
  const recorded = only === undefined ? store.consentEvents.all() : store.consentEvents.ofSubject(only);
  const events = Map.groupBy(recorded, ({ subjectId }) => subjectId);
  const kept = new Set(store.keptCrops.list().map(({ subjectId }) => subjectId));
  return [...images].flatMap(([subjectId, own]): Due[] => {
    if (kept.has(subjectId)) return [];
    const said = events.get(subjectId) ?? [];
    if (said.length === 0) return withoutConsent(subjectId, own, rules);
    const end = endOfConsents(said);
    if (end === null) return [];
    const byClock = end.byClock || rules.keepCropsDays > 0;
    const at = later(end.at, rules.keepCropsDays);
    return [{ subjectId, images: own, at, byClock, reason: cropDeletedReason }];
  });
}

function withoutConsent(subjectId: number, images: StoredCrop[], rules: RetentionRules): Due[] {
  if (rules.maxDaysWithoutConsent === 0) return [];
  return [...Map.groupBy(images, ({ importedAt }) => importedAt)].map(([importedAt, own]) => ({
    ...{ subjectId, images: own, byClock: true, reason: neverConsentedReason },
    at: later(importedAt, rules.maxDaysWithoutConsent),
  }));
}

/** When the last consent of a subject to anything is over, if it ends at all. */
function endOfConsents(events: readonly ConsentEventRecord[]): { at: string; byClock: boolean } | null {
  const ends: { at: string; byClock: boolean }[] = events
    .filter(({ kind }) => kind === 'withdraw')
    .map(({ recordedAt }) => ({ at: recordedAt, byClock: false }));
  for (const purpose of purposesOf(events)) {
    const end = endOfPurpose(events, purpose);
    if (end === null) return null;
    if (end !== undefined) ends.push({ at: end, byClock: true });
  }
  return ends.reduce<{ at: string; byClock: boolean } | null>(
    (last, end) => (last === null || end.at >= last.at ? end : last),
    null,
  );
}

/**
 * The end of the last time that a purpose is allowed, now or later: not of a grant that a newer one stands before. Null when
 * it never ends; undefined when nothing counts that was consented to.
 */
function endOfPurpose(events: readonly ConsentEventRecord[], purpose: string): string | null | undefined {
  const grants = countingGrants(events, purpose);
  const changes = new Set(grants.flatMap(({ validFrom, expiresAt }) => [validFrom, expiresAt ?? validFrom]));
  const instants = [...changes].sort();
  const last = instants.findLastIndex((at) => consentStatus(events, purpose, at) === 'active');
  return instants.length === 0 ? undefined : (instants[last + 1] ?? null);
}

export interface RetentionPass {
  images: number;
  subjects: number;
  /** Subjects whose crops are due, but by a clock that is in doubt. */
  waiting: number;
  /** When the next ones are due, ISO 8601 UTC; null when none are. */
  nextAt: string | null;
  /** Blobs that lost their rows. */
  files: string[];
}

/** Deletes what is due; the caller deletes the files. */
export function dropDueCrops(store: Store, { trustsClock }: { trustsClock: boolean }): RetentionPass {
  return store.transaction(() => {
    const { keepCropsDays, maxDaysWithoutConsent } = currentPolicy(store).policy;
    const all = dueCrops(store, { keepCropsDays, maxDaysWithoutConsent });
    const now = store.clock.latest();
    const due = all.filter(({ at }) => at <= now);
    const drop = due.filter(({ byClock }) => trustsClock || !byClock);
    for (const { subjectId, images, reason } of drop) {
      for (const { id } of images) store.images.dropCrop(id, reason);
      const subject = store.subjects.refOf(store.subjects.byId(subjectId)!.pseudonym);
      const details = { subject, images: images.length, reason };
      store.audit.append({ actor: 'anneal', action: actions.deleted, details });
    }
    const next = all.map(({ at }) => at).filter((at) => at > now);
    return {
      images: drop.reduce((sum, { images }) => sum + images.length, 0),
      subjects: new Set(drop.map(({ subjectId }) => subjectId)).size,
      waiting: new Set(due.filter((one) => !drop.includes(one)).map(({ subjectId }) => subjectId)).size,
      nextAt: next.sort()[0] ?? null,
      files: drop.flatMap(({ images }) => images.map(({ cropSha256 }) => cropSha256)),
    };
  });
}

/** What the person chose. Call it in the transaction of a withdrawal: its crops would be gone at once. */
export function keepCrops(
  store: Store,
  { id, pseudonym }: { id: number; pseudonym: string },
  keep: boolean,
  actor: string,
): void {
  store.transaction(() => {
    const isNew = keep ? store.keptCrops.set(id, actor) : store.keptCrops.remove(id);
    if (!isNew) return;
    const details = { subject: store.subjects.refOf(pseudonym) };
    store.audit.append({ actor, action: keep ? actions.kept : actions.released, details });
  });
}
