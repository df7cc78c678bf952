/** Consents as people look at them: purpose by purpose, with the days that were meant, and when they end. */
import { pick } from '../shared/pick.ts';
import type { ConsentEventRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import {
  type ConsentStatus,
  consentStatus,
  countingGrants,
  everyPurpose,
  grantInForce,
  lastWithdrawal,
} from './consent.ts';
import { firstDayOf, lastDayOf } from './period.ts';
import { siteTimeZone } from './site-zone.ts';

/** From when until when a consent holds, and who signed and entered it. */
export interface ConsentTerm
  extends Pick<
    ConsentEventRecord,
    'documentVersion' | 'recordedAt' | 'recordedBy' | 'givenBy' | 'verifiedOn' | 'reference'
  > {
  eventId: number;
  /** ISO 8601 UTC, and the day that begins with it at this site; null within a day. */
  from: string;
  firstDay: string | null;
  /** First instant at which it holds no more, and the last whole day before it; null: no end, or within a day. */
  until: string | null;
  lastDay: string | null;
}

/** What a subject consented to, for one purpose, at an instant. */
export interface PurposeConsent {
  purpose: string;
  status: ConsentStatus;
  /** The consent that holds, or held last; null when none has begun, or all were withdrawn. */
  term: ConsentTerm | null;
  /** The one that begins next. */
  next: ConsentTerm | null;
  /** When an active one is over if nothing more is recorded, all that go on from it counted; null: never, or not active. */
  endsAt: string | null;
  /** The newest one, from this purpose or from every one; older consents do not count. */
  withdrawal: Pick<ConsentEventRecord, 'id' | 'validFrom' | 'recordedAt' | 'recordedBy'> | null;
}

/** The purposes that somebody has recorded something about, by name. */
export const purposesOf = (events: readonly ConsentEventRecord[]): string[] =>
  [...new Set(events.map(({ purpose }) => purpose).filter((purpose) => purpose !== everyPurpose))].sort();

/** @param events of one subject; `at` ISO 8601 UTC; `zone` of the site */
export function purposeOf(
  events: readonly ConsentEventRecord[],
  purpose: string,
  { at, zone }: { at: string; zone: string },
): PurposeConsent {
  const grants = countingGrants(events, purpose);
  const inForce = grantInForce(grants, at);
  // One that was recorded before the present one never takes its place.
  const coming = grants
    .filter(({ id, validFrom }) => validFrom > at && id > (inForce?.id ?? 0))
    .sort((a, b) => Date.parse(a.validFrom) - Date.parse(b.validFrom) || b.id - a.id)[0];
  const withdrawal = lastWithdrawal(events, purpose);
  return {
    purpose,
    status: consentStatus(events, purpose, at),
    term: inForce && termOf(inForce, zone),
    next: coming === undefined ? null : termOf(coming, zone),
    endsAt: endOfConsent(events, purpose, at),
    withdrawal: withdrawal && pick(withdrawal, 'id', 'validFrom', 'recordedAt', 'recordedBy'),
  };
}

export function termOf(grant: ConsentEventRecord, zone: string): ConsentTerm {
  const { id, validFrom, expiresAt } = grant;
  return {
    eventId: id,
    ...{ from: validFrom, firstDay: firstDayOf(validFrom, zone) },
    ...{ until: expiresAt, lastDay: lastDayOf(expiresAt, zone) },
    ...pick(grant, 'documentVersion', 'recordedAt', 'recordedBy', 'givenBy', 'verifiedOn', 'reference'),
  };
}

/** Every purpose of a subject; a withdrawal from every one of somebody who never consented is one row, `*`. */
export function consentsByPurpose(
  events: readonly ConsentEventRecord[],
  when: { at: string; zone: string },
): PurposeConsent[] {
  const purposes = purposesOf(events);
  if (purposes.length === 0 && events.length > 0) purposes.push(everyPurpose);
  return purposes.map((purpose) => purposeOf(events, purpose, when));
}

/** When the consent to a purpose that is active at `at` is over, if nothing more is recorded; null: never, or not active. */
export function endOfConsent(
  events: readonly ConsentEventRecord[],
  purpose: string,
  at: string,
): string | null {
  if (consentStatus(events, purpose, at) !== 'active') return null;
  const changes = countingGrants(events, purpose)
    .flatMap(({ validFrom, expiresAt }) => [validFrom, expiresAt])
    .filter((instant) => instant !== null && instant > at)
    .sort();
  return changes.find((instant) => consentStatus(events, purpose, instant!) !== 'active') ?? null;
}

/** A consent that is active and ends. */
export interface EndingConsent {
  pseudonym: string;
  purpose: string;
  /** First instant at which it holds no more. */
  endsAt: string;
  lastDay: string | null;
}

/**
 * Consents to a purpose that are active now and over before an instant, the earliest first: for a warning before a run
 * that is planned to last until then.
 * @param until ISO 8601 UTC
 */
export function consentsEndingBefore(store: ReadOnlyStore, purpose: string, until: string): EndingConsent[] {
  return endingBefore(store, store.consentEvents.ofPurpose(purpose), until, (events) =>
    events.length === 0 ? [] : [purpose],
  );
}

/** The same of every purpose, within some days from now. */
export function expiringConsents(store: ReadOnlyStore, days: number): EndingConsent[] {
  const until = new Date(Date.parse(store.clock.latest()) + days * 24 * 3_600_000).toISOString();
  return endingBefore(store, store.consentEvents.all(), until, purposesOf);
}

function endingBefore(
  store: ReadOnlyStore,
  events: readonly ConsentEventRecord[],
  until: string,
  purposes: (events: readonly ConsentEventRecord[]) => string[],
): EndingConsent[] {
  const [at, zone] = [store.clock.latest(), siteTimeZone(store)];
  const ending = [...Map.groupBy(events, ({ subjectId }) => subjectId)].flatMap(([subjectId, own]) =>
    purposes(own).flatMap((purpose) => {
      const endsAt = endOfConsent(own, purpose, at);
      if (endsAt === null || endsAt > until) return [];
      const { pseudonym } = store.subjects.byId(subjectId)!;
      return [{ pseudonym, purpose, endsAt, lastDay: lastDayOf(endsAt, zone) }];
    }),
  );
  return ending.sort(
    (a, b) => Date.parse(a.endsAt) - Date.parse(b.endsAt) || (a.pseudonym < b.pseudonym ? -1 : 1),
  );
}
