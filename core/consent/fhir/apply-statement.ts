/**
 * What a statement of a FHIR Consent does to the consents of a subject. A resource that comes again, changed or not, may
 * take back or shorten what it gave; it brings nothing back that was withdrawn since.
 */

import type { ConsentSourceRecord } from '../../store/consent-source-table.ts';
import type { ConsentEventRecord } from '../../store/records.ts';
import type { Store } from '../../store/store.ts';
import { applyConsentRecord, type ConsentOutcome } from '../apply-record.ts';
import { countingGrants, everyPurpose, grantInForce, lastWithdrawal, recordConsent } from '../consent.ts';
import { endOfTime } from '../period.ts';
import type { ConsentStatement, PurposeStatement } from './interpret.ts';
import { contains, from, type Instants, type Interval } from './intervals.ts';

export interface Applying {
  store: Store;
  recordedBy: string;
}

const iso = (ms: number) => new Date(ms).toISOString();
/** The store's times sort as text up to then; earlier ones nobody alive has written. */
const firstInstant = Date.parse('1900-01-01T00:00:00.000Z');
const lastInstant = Date.parse(endOfTime);

interface Situation {
  now: number;
  subjectId: number;
  events: readonly ConsentEventRecord[];
  /** As the resource was read before. */
  source: ConsentSourceRecord | null;
}

/** Null when there is no such subject. */
export function situationOf(store: Store, { pseudonym, key }: ConsentStatement): Situation | null {
  const subject = store.subjects.byPseudonym(pseudonym);
  if (subject === null) return null;
  return {
    now: Date.parse(store.clock.latest()),
    subjectId: subject.id,
    events: store.consentEvents.ofSubject(subject.id),
    source: store.consentSources.byKey(key),
  };
}

/** Grants of this resource that count, also those that have not begun or are over. */
function ownGrants({ source, events }: Situation, purpose: string): ConsentEventRecord[] {
  const ids = new Set(source?.grants[purpose]);
  return countingGrants(events, purpose).filter(({ id }) => ids.has(id));
}

/** Purposes that the statement is about: those of the site, and those that an earlier version of it granted. */
const purposesOf = (statement: ConsentStatement, { source }: Situation) =>
  new Set([...statement.purposes.keys(), ...Object.keys(source?.grants ?? {})]);

const silent: PurposeStatement = { permitted: [], refused: [] };

/**
 * The part that takes away: refusals, and grants of an earlier version that this one does not give any more.
 * @returns whether anything was taken away
 */
export function takeAway({ store, recordedBy }: Applying, statement: ConsentStatement): boolean {
  const situation = situationOf(store, statement)!;
  const { now } = situation;
  const withdraw = (purpose: string, isDated: boolean) => {
    const withdrawnOn = isDated && statement.signed !== null ? iso(statement.signed.earliest) : null;
    const { outcome } = applyConsentRecord(
      store,
      {
        ...{ pseudonym: statement.pseudonym, kind: 'withdrawn', purpose, withdrawnOn },
        ...{ documentVersion: statement.documentVersion, validFrom: null, expiresAt: null },
        reference: statement.key,
      },
      { recordedBy },
    );
    return outcome === 'withdrawn';
  };
  let isTaken = statement.refusesEverything && withdraw(everyPurpose, true);
  for (const purpose of purposesOf(statement, situation)) {
    const { permitted, refused } = statement.purposes.get(purpose) ?? silent;
    const later = from(permitted, now);
    const isPermitted = contains(permitted, now);
    const isRefused =
      !isPermitted && (contains(refused, now) || (later.length === 0 && from(refused, now).length > 0));
    const own = ownGrants(situation, purpose);
    if (isRefused && later.length === 0) isTaken = withdraw(purpose, true) || isTaken;
    else if (own.length > 0 && permitted.length === 0) isTaken = withdraw(purpose, false) || isTaken;
    else if (isRefused || (own.length > 0 && !permitted.some(({ start }) => start <= now))) {
      if (areSame(own, storable(permitted, statement, situation))) continue;
      isTaken = closeGrants({ store, recordedBy }, statement, situation, purpose) || isTaken;
    }
  }
  return isTaken;
}

/**
 * The consent holds later and not now: a grant that is over as of now stands before all that were recorded before it,
 * whenever they begin.
 */
function closeGrants(
  { store, recordedBy }: Applying,
  statement: ConsentStatement,
  situation: Situation,
  purpose: string,
): boolean {
  const latest = store.clock.latest();
  const counting = countingGrants(situation.events, purpose);
  const begun = grantInForce(counting, latest);
  const isOver = begun?.expiresAt != null && begun.expiresAt <= latest;
  if (counting.length === 0 || (isOver && begun === counting.at(-1))) return false;
  const validFrom =
    begun !== null && begun.validFrom < latest ? begun.validFrom : iso(Date.parse(latest) - 1);
  recordConsent(store, { ...grantOf(statement, purpose), validFrom, expiresAt: latest, recordedBy });
  return true;
}

/** The newest one is what {@link closeGrants} has put there. */
function isClosed(
  counting: readonly ConsentEventRecord[],
  own: readonly ConsentEventRecord[],
  { key }: ConsentStatement,
): boolean {
  const newest = counting.at(-1);
  return newest !== undefined && newest.reference === key && newest.id !== own.at(-1)?.id;
}

const grantOf = (statement: ConsentStatement, purpose: string) => ({
  purpose,
  pseudonym: statement.pseudonym,
  documentVersion: statement.documentVersion,
  givenBy: statement.givenBy,
  verifiedOn: statement.verifiedOn,
  reference: statement.key,
});

export interface GivenGrants {
  outcomes: ConsentOutcome[];
  /** Events of the statement, those included that were recorded before. */
  grants: Record<string, number[]>;
}

/** The part that gives. To be called after {@link takeAway}, and after that of every other statement of the list. */
export function give(applying: Applying, statement: ConsentStatement): GivenGrants {
  const situation = situationOf(applying.store, statement)!;
  const given: GivenGrants = { outcomes: [], grants: {} };
  for (const [purpose, { permitted }] of statement.purposes) {
    const intervals = storable(permitted, statement, situation);
    if (intervals.length === 0) continue;
    const { outcomes, ids } = giveOne(applying, statement, situation, purpose, intervals);
    given.outcomes.push(...outcomes);
    if (ids.length > 0) given.grants[purpose] = ids;
  }
  return given;
}

/** Without a date the consent holds from when it was first seen; nobody knows of an earlier instant. */
function storable(permitted: Instants, { signed }: ConsentStatement, { source, now }: Situation): Interval[] {
  const seen = Date.parse(source?.firstReadAt ?? iso(now));
  const earliest = signed === null ? seen : firstInstant;
  return permitted
    .map(({ start, end }) => ({
      start: start === -Infinity ? earliest : Math.max(start, firstInstant),
      end: Math.min(end, lastInstant),
    }))
    .filter(({ start, end }) => start < end);
}

interface GivenOne {
  outcomes: ConsentOutcome[];
  ids: number[];
}

function giveOne(
  applying: Applying,
  statement: ConsentStatement,
  situation: Situation,
  purpose: string,
  intervals: readonly Interval[],
): GivenOne {
  const own = ownGrants(situation, purpose);
  const counting = countingGrants(situation.events, purpose);
  if (own.length > 0) {
    if (areSame(own, intervals)) return { outcomes: ['known'], ids: own.map(({ id }) => id) };
    // Nothing newer stands: the new version of the resource replaces the old one, longer or shorter.
    if (counting.at(-1)!.id === own.at(-1)!.id || isClosed(counting, own, statement))
      return replace(applying, statement, purpose, intervals);
  } else if (!mayBringBack(statement, situation, purpose)) {
    const before = situation.source?.grants[purpose] ?? [];
    return { outcomes: [counting.length > 0 ? 'known' : 'still-withdrawn'], ids: before };
  }
  const applied = intervals.map(({ start, end }) =>
    applyConsentRecord(
      applying.store,
      { ...grantOf(statement, purpose), kind: 'granted', validFrom: iso(start), expiresAt: isoEnd(end) },
      applying,
    ),
  );
  const ids = applied.flatMap(({ event }) => (event === null ? [] : [event.id]));
  return {
    outcomes: applied.map(({ outcome }) => outcome),
    ids: ids.length > 0 ? ids : own.map(({ id }) => id),
  };
}

function replace(
  { store, recordedBy }: Applying,
  statement: ConsentStatement,
  purpose: string,
  intervals: readonly Interval[],
): GivenOne {
  const events = intervals.map(({ start, end }) =>
    recordConsent(store, {
      ...grantOf(statement, purpose),
      ...{ validFrom: iso(start), expiresAt: isoEnd(end), recordedBy },
    }),
  );
  return { outcomes: ['recorded'], ids: events.map(({ id }) => id) };
}

const isoEnd = (end: number) => (end >= lastInstant ? null : iso(end));

function areSame(grants: readonly ConsentEventRecord[], intervals: readonly Interval[]): boolean {
  return (
    grants.length === intervals.length &&
    intervals.every(
      ({ start, end }, index) =>
        grants[index]!.validFrom === iso(start) && grants[index]!.expiresAt === isoEnd(end),
    )
  );
}

/**
 * After a withdrawal only a consent that was certainly given later, and not in the future; and not one that was read
 * before the withdrawal and has the same date, whatever else of it has changed.
 */
function mayBringBack(
  { signed }: ConsentStatement,
  { events, source, now }: Situation,
  purpose: string,
): boolean {
  const withdrawal = lastWithdrawal(events, purpose);
  if (withdrawal === null) return true;
  if (signed === null || signed.earliest > now || signed.earliest <= Date.parse(withdrawal.validFrom))
    return false;
  const wasRead = source?.grants[purpose]?.some((id) => id < withdrawal.id) ?? false;
  return !wasRead || source!.givenAt !== iso(signed.earliest);
}
