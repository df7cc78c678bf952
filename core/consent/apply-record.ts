/** What a list of consents does to a subject: a CSV, a FHIR bundle, anything that may be older than what is recorded. */
import { pick } from '../shared/pick.ts';
import type { ConsentEventRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import {
  consentStatus,
  countingGrants,
  everyPurpose,
  grantInForce,
  lastWithdrawal,
  recordConsent,
  withdrawConsent,
} from './consent.ts';
import { dayOf, endOfPeriod, startOfPeriod } from './period.ts';
import { purposesMeant } from './purpose-names.ts';
import { siteTimeZone } from './site-zone.ts';

/** One subject's consent to one purpose, as a list tells of it. */
export interface ConsentRecord {
  pseudonym: string;
  kind: 'granted' | 'withdrawn' | 'none';
  /** Of a withdrawal also `*`: from every purpose. */
  purpose: string;
  /** Null when the list does not name the document. */
  documentVersion: string | null;
  /** Begin of a grant: ISO 8601 date or date-time with offset; null when not given. */
  validFrom: string | null;
  /** ISO 8601 date (that day still counts) or date-time with offset; null when not given. */
  expiresAt: string | null;
  /** Date of a withdrawal, in the same form. Never the begin of the consent that it ends, which lists often repeat. */
  withdrawnOn?: string | null | undefined;
  givenBy?: ConsentEventRecord['givenBy'] | undefined;
  verifiedOn?: string | null | undefined;
  reference?: string | null | undefined;
}

/**
 * `known`: recorded already, or older than what is; `reconsented`: given after a withdrawal; `still-withdrawn`: a
 * withdrawal stands against it; `unknown-subject`: there is no such subject, and none is made; `nothing`: it says nothing.
 */
export type ConsentOutcome =
  | 'recorded'
  | 'known'
  | 'reconsented'
  | 'still-withdrawn'
  | 'withdrawn'
  | 'unknown-subject'
  | 'nothing';

export interface AppliedConsent {
  outcome: ConsentOutcome;
  /** The event that was recorded, if any. */
  event: ConsentEventRecord | null;
}

/** What is recorded as the document when a list names none. */
export const unnamedDocument = 'unnamed';

/** Zones differ by 26 hours at most: the same date of two zones is not further apart. */
const zonesApartMs = 26 * 3_600_000;

/**
 * Adds the event that a list tells of, if it is news. The same list may come again, written otherwise, with dates changed
 * or left out: none of this brings back what was withdrawn, or makes a consent longer that was shortened since.
 * - After a withdrawal only what names its document and is dated later than the day of the withdrawal, and later than
 *   every grant that was withdrawn.
 * - Else a grant counts that is dated no earlier than the newest one; one without a date may only shorten.
 * - A withdrawal always counts, but one that is dated before a newer consent.
 * @throws AppError CONSENT_INVALID
 */
export function applyConsentRecord(
  store: Store,
  record: ConsentRecord,
  { recordedBy }: { recordedBy: string },
): AppliedConsent {
  return store.transaction(() => {
    if (record.kind === 'none') return nothing('nothing');
    const subject = store.subjects.byPseudonym(record.pseudonym.trim().normalize('NFC'));
    if (subject === null) return nothing('unknown-subject');
    const events = store.consentEvents.ofSubject(subject.id);
    const zone = siteTimeZone(store);
    if (record.kind === 'withdrawn') return withdraw(store, record, { events, zone, recordedBy });
    const outcome = judgeGrant(record, { events, zone, at: store.clock.latest() });
    if (outcome !== 'recorded' && outcome !== 'reconsented') return nothing(outcome);
    const inForce = grantInForce(countingGrants(events, record.purpose), store.clock.latest());
    const event = recordConsent(store, {
      ...pick(record, 'pseudonym', 'purpose', 'expiresAt', 'givenBy', 'verifiedOn', 'reference'),
      documentVersion: record.documentVersion ?? unnamedDocument,
      validFrom: record.validFrom ?? inForce?.validFrom ?? store.clock.latest(),
      afterWithdrawal: outcome === 'reconsented',
      recordedBy,
    });
    return { outcome, event };
  });
}

const nothing = (outcome: ConsentOutcome): AppliedConsent => ({ outcome, event: null });

interface Known {
  events: readonly ConsentEventRecord[];
  zone: string;
}

/** What a grant of a list would do; nothing is written. For previews, too. @param known of the subject; `at` the latest time known */
export function judgeGrant(
  {
    purpose,
    documentVersion,
    validFrom,
    expiresAt,
  }: Pick<ConsentRecord, 'purpose' | 'documentVersion' | 'validFrom' | 'expiresAt'>,
  { events, zone, at }: Known & { at: string },
): Extract<ConsentOutcome, 'recorded' | 'known' | 'reconsented' | 'still-withdrawn'> {
  const from = validFrom === null ? null : startOfPeriod(zone).parse(validFrom);
  const until = expiresAt === null ? null : endOfPeriod(zone).parse(expiresAt);
  const withdrawal = lastWithdrawal(events, purpose);
  if (withdrawal !== null && from !== null && !isLaterThan(withdrawal, from, { events, zone }, purpose))
    return consentStatus(events, purpose, at) === 'withdrawn' ? 'still-withdrawn' : 'known';
  const grants = countingGrants(events, purpose);
  if (withdrawal !== null && grants.length === 0)
    return from === null || documentVersion === null ? 'still-withdrawn' : 'reconsented';
  if (grants.length === 0) return 'recorded';
  const isSame = (grant: ConsentEventRecord) =>
    sameDocument(grant.documentVersion, documentVersion) &&
    (from === null || grant.validFrom === from) &&
    grant.expiresAt === until;
  if (grants.some(isSame)) return 'known';
  const current = grantInForce(grants, at);
  const mayOnlyShorten =
    from === null ||
    shortenings(grants).some(({ recordedAt }) => dayOf(from, zone) <= dayOf(recordedAt, zone));
  if (from !== null && grants.some((grant) => grant.validFrom > from)) return 'known';
  if (!mayOnlyShorten) return 'recorded';
  // Over before the present consent began: told of an earlier one.
  if (from === null && current !== null && until !== null && until <= current.validFrom) return 'known';
  return current !== null && isShorter(until, current.expiresAt) ? 'recorded' : 'known';
}

/** Grants that only made one before them end earlier: they have its begin, so that their own date says nothing of when. */
const shortenings = (grants: readonly ConsentEventRecord[]) =>
  grants.filter((grant, index) =>
    grants
      .slice(0, index)
      .some(
        (before) =>
          isShorter(grant.expiresAt, before.expiresAt) &&
          Date.parse(grant.validFrom) - Date.parse(before.validFrom) <= zonesApartMs,
      ),
  );

const isShorter = (until: string | null, than: string | null) =>
  until !== null && (than === null || until < than);

/** Also not the same grant, or an older one, that was recorded before the withdrawal and had not begun. */
function isLaterThan(
  withdrawal: ConsentEventRecord,
  from: string,
  { events, zone }: Known,
  purpose: string,
): boolean {
  if (dayOf(from, zone) <= dayOf(withdrawal.validFrom, zone)) return false;
  return events
    .filter((event) => event.kind === 'grant' && event.purpose === purpose && event.id < withdrawal.id)
    .every((event) => Date.parse(from) - Date.parse(event.validFrom) > zonesApartMs);
}

/** `v1` and ` V1` are one document; a list that names none may mean any. */
function sameDocument(recorded: string | null, named: string | null): boolean {
  const plain = (name: string | null) =>
    (name ?? unnamedDocument).normalize('NFKC').toLowerCase().replaceAll(/\s+/g, '');
  return plain(recorded) === plain(named);
}

/** What a withdrawal of a list would do; nothing is written. For previews, too. @param known as for {@link judgeGrant} */
export function judgeWithdrawal(
  { purpose, withdrawnOn = null }: Pick<ConsentRecord, 'purpose' | 'withdrawnOn'>,
  { events, zone, at }: Known & { at: string },
): Extract<ConsentOutcome, 'withdrawn' | 'known'> {
  const purposes = purpose === everyPurpose ? grantedPurposes(events) : purposesMeant(events, purpose);
  const isOver = (one: string) => consentStatus(events, one, at) === 'withdrawn';
  const from = withdrawnOn === null ? null : startOfPeriod(zone).parse(withdrawnOn);
  const isOlder = (one: string) => {
    const last = lastWithdrawal(events, one);
    const newer = countingGrants(events, one);
    if (last === null || from === null || newer.length === 0) return false;
    // An old list tells of the withdrawal before the present consent once more.
    const isThatOne = dayOf(last.validFrom, zone) === dayOf(from, zone);
    return newer.every((grant) => {
      const given = givenBy(grant);
      return given > from && (isThatOne || dayOf(given, zone) > dayOf(from, zone));
    });
  };
  const named = purpose === everyPurpose ? [everyPurpose] : purposes;
  const isToldBefore = named.some((one) => lastWithdrawal(events, one) !== null) || purposes.some(isOlder);
  return isToldBefore && purposes.every((one) => isOver(one) || isOlder(one)) ? 'known' : 'withdrawn';
}

function withdraw(
  store: Store,
  record: ConsentRecord,
  { events, zone, recordedBy }: Known & { recordedBy: string },
): AppliedConsent {
  const { withdrawnOn = null } = record;
  const at = store.clock.latest();
  if (judgeWithdrawal(record, { events, zone, at }) === 'known') return nothing('known');
  // A list may be dated by a day that has just begun elsewhere; a withdrawal waits for nothing.
  const isAhead = withdrawnOn !== null && startOfPeriod(zone).parse(withdrawnOn) > at;
  const event = withdrawConsent(store, {
    ...pick(record, 'pseudonym', 'purpose', 'documentVersion', 'reference'),
    ...{ date: isAhead ? null : withdrawnOn, recordedBy },
  });
  return { outcome: 'withdrawn', event };
}

/** The latest instant at which a grant may have been given: a consent that begins later has been signed before it was recorded. */
const givenBy = ({ validFrom, recordedAt }: ConsentEventRecord): string =>
  validFrom < recordedAt ? validFrom : recordedAt;

const grantedPurposes = (events: readonly ConsentEventRecord[]) => [
  ...new Set(events.filter(({ kind }) => kind === 'grant').map(({ purpose }) => purpose)),
];
