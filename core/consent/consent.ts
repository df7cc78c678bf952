/** Consent of a subject to a purpose: recorded as events, judged at an instant. docs/consent.md has the rules in words. */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { hiddenCharacterIn } from '../shared/visible-text.ts';
import { type ConsentEventRecord, consentGiverSchema } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { dayOf, endOfPeriod, isDay, ofZone, startOfPeriod } from './period.ts';
import { normalisePseudonym, parsePseudonym } from './pseudonym.ts';
import { purposesMeant } from './purpose-names.ts';
import { siteTimeZone } from './site-zone.ts';

/** In a withdrawal: from every purpose. */
export const everyPurpose = '*';

export type ConsentStatus = 'active' | 'withdrawn' | 'expired' | 'none' | 'not-yet-valid';

export interface ConsentGrant {
  pseudonym: string;
  /** What may be done with the photographs, for instance `federated-training`. */
  purpose: string;
  /** Version of the form that was signed. */
  documentVersion: string;
  /** ISO 8601 date (from its first moment at the site) or date-time with offset. */
  validFrom: string;
  /** ISO 8601 date (that day still counts) or date-time with offset (the first instant that does not). */
  expiresAt?: string | null | undefined;
  /** Who entered it: a role or account, never the subject. */
  recordedBy: string;
  /** Who signed. */
  givenBy?: ConsentEventRecord['givenBy'] | undefined;
  /** ISO 8601 date on which somebody checked it with who signed. */
  verifiedOn?: string | null | undefined;
  /** The hospital's own name of the document. */
  reference?: string | null | undefined;
  /** That this is a new consent of a subject who has withdrawn: `true`, or the id of the withdrawal that was shown. */
  afterWithdrawal?: boolean | number | undefined;
}

const word = z.string().trim().min(1).max(200);
const recorded = {
  pseudonym: word.transform(normalisePseudonym),
  recordedBy: word,
  reference: word.nullish(),
};
const grantSchema = ofZone((zone) =>
  z.strictObject({
    ...recorded,
    purpose: word
      .refine((purpose) => purpose !== everyPurpose, 'must be one purpose')
      .superRefine((purpose, context) => {
        const hidden = hiddenCharacterIn(purpose);
        if (hidden !== null) context.addIssue({ code: 'custom', message: `it ${hidden}` });
      }),
    documentVersion: word,
    validFrom: startOfPeriod(zone),
    expiresAt: endOfPeriod(zone).nullish(),
    givenBy: consentGiverSchema.nullish(),
    verifiedOn: z.string().trim().refine(isDay, 'expected a date such as 2026-11-22').nullish(),
    afterWithdrawal: z.union([z.boolean(), z.int().positive()]).default(false),
  }),
);

/**
 * Appends a grant; makes the subject if it is new. The newest grant that has begun replaces older ones, so a shorter
 * term given later holds. After a withdrawal it takes a grant that says so, of no earlier date, to bring anything back.
 * @throws AppError CONSENT_INVALID
 */
export function recordConsent(store: Store, grant: ConsentGrant): ConsentEventRecord {
  return store.transaction(() => {
    const zone = siteTimeZone(store);
    const { pseudonym, afterWithdrawal, ...terms } = understood(grantSchema(zone), grant);
    // A subject that is there already may have a pseudonym that would be refused today.
    const subject =
      store.subjects.byPseudonym(pseudonym) ??
      store.subjects.upsert({ pseudonym: parsePseudonym(pseudonym) });
    const events = store.consentEvents.ofSubject(subject.id);
    const withdrawal = lastWithdrawal(events, terms.purpose);
    const asked = { pseudonym, zone, written: grant.validFrom, validFrom: terms.validFrom };
    if (withdrawal !== null) checkSaid(withdrawal, events, terms.purpose, afterWithdrawal, asked);
    const validFrom = withdrawal === null ? terms.validFrom : startAfter(store, withdrawal, asked);
    const expiresAt = terms.expiresAt ?? null;
    if (expiresAt !== null && expiresAt <= validFrom)
      throw new AppError('CONSENT_INVALID', `The consent of "${pseudonym}" ends before it begins.`);
    return store.consentEvents.append({
      ...terms,
      ...{ validFrom, expiresAt, subjectId: subject.id, kind: 'grant' },
      afterWithdrawal: withdrawal?.id ?? null,
    });
  });
}

interface Asked {
  pseudonym: string;
  zone: string;
  /** As a person gave it. */
  written: string;
  validFrom: string;
}

/** To bring back what was withdrawn is an act of its own: nobody does it by the way. */
function checkSaid(
  withdrawal: ConsentEventRecord,
  events: readonly ConsentEventRecord[],
  purpose: string,
  said: boolean | number,
  asked: Asked,
): void {
  const isBack = events.some((event) => isGrantAfter(event, purpose, withdrawal));
  if (typeof said === 'number' ? said === withdrawal.id : said || isBack) return;
  const { pseudonym } = asked;
  throw new AppError(
    'CONSENT_INVALID',
    `"${pseudonym}" has withdrawn ${whoAndWhen(withdrawal, asked.zone)}.`,
    {
      action:
        'If there is a new consent, record it as one that was given after the withdrawal ("anneal consent record" with ' +
        '--after-withdrawal), with its own date and document.',
    },
  );
}

const whoAndWhen = ({ validFrom, recordedBy }: ConsentEventRecord, zone: string) =>
  `on ${dayOf(validFrom, zone)} (recorded by ${recordedBy})`;

/** The date of a withdrawal, but never a later one than now: a clock that was wrong must not stand against a new consent. */
const dateOf = (store: Store, { validFrom }: ConsentEventRecord): string =>
  validFrom < store.clock.latest() ? validFrom : store.clock.latest();

/**
 * From when a grant holds that is recorded after a withdrawal. A date means that day: on the day of the withdrawal it
 * holds from the withdrawal on.
 * @throws AppError CONSENT_INVALID when it was given before the withdrawal
 */
function startAfter(store: Store, withdrawal: ConsentEventRecord, asked: Asked): string {
  const { pseudonym, zone, written, validFrom } = asked;
  const date = dateOf(store, withdrawal);
  if (validFrom >= date) return validFrom;
  if (isDay(written) && written.trim() === dayOf(date, zone)) return date;
  throw new AppError(
    'CONSENT_INVALID',
    `"${pseudonym}" has withdrawn ${whoAndWhen(withdrawal, zone)}; a consent that was given before does not count any more.`,
    { action: 'If there is a new consent, record it with the date on which it was given.' },
  );
}

export interface ConsentWithdrawal {
  pseudonym: string;
  /** From every purpose when absent. */
  purpose?: string | undefined;
  /** When the subject withdrew, if that was before now: ISO 8601 date or date-time with offset. */
  date?: string | null | undefined;
  recordedBy: string;
  /** Version of the form on which it was withdrawn. */
  documentVersion?: string | null | undefined;
  reference?: string | null | undefined;
}

const withdrawalSchema = ofZone((zone) =>
  z.strictObject({
    ...recorded,
    purpose: word.default(everyPurpose),
    date: startOfPeriod(zone).nullish(),
    documentVersion: word.nullish(),
  }),
);

/**
 * Takes effect at once, whatever its date and whatever the clock says later. Its date is what later grants are compared
 * with. Possible without an earlier grant: a refusal is worth recording, too. A purpose that is written nearly as one that
 * the subject has consented to means that one.
 * @returns the event; the last one when a name means several purposes
 * @throws AppError SUBJECT_UNKNOWN | CONSENT_INVALID
 */
export function withdrawConsent(store: Store, withdrawal: ConsentWithdrawal): ConsentEventRecord {
  return store.withReserve(() => recordWithdrawal(store, withdrawal));
}

function recordWithdrawal(store: Store, withdrawal: ConsentWithdrawal): ConsentEventRecord {
  return store.transaction(() => {
    const zone = siteTimeZone(store);
    const { pseudonym, date, purpose, ...said } = understood(withdrawalSchema(zone), withdrawal);
    const subject = store.subjects.byPseudonym(pseudonym);
    if (subject === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${pseudonym}".`);
    const latest = store.clock.latest();
    if (date != null && date > latest)
      throw new AppError('CONSENT_INVALID', `The withdrawal of "${pseudonym}" is dated in the future.`, {
        action: 'Give the day on which the subject withdrew, or none: a withdrawal takes effect at once.',
      });
    const events = purposesMeant(store.consentEvents.ofSubject(subject.id), purpose).map((one) =>
      store.consentEvents.append({
        ...{ ...said, purpose: one, documentVersion: said.documentVersion ?? null },
        ...{ subjectId: subject.id, kind: 'withdraw', validFrom: date ?? latest, expiresAt: null },
      }),
    );
    return events.at(-1)!;
  });
}

/** The newest withdrawal from a purpose or from every one; null when there is none. */
export function lastWithdrawal(
  events: readonly ConsentEventRecord[],
  purpose: string,
): ConsentEventRecord | null {
  const withdrawals = events.filter(
    (event) => event.kind === 'withdraw' && (event.purpose === purpose || event.purpose === everyPurpose),
  );
  return withdrawals.reduce<ConsentEventRecord | null>(
    (newest, event) => (newest === null || event.id > newest.id ? event : newest),
    null,
  );
}

const isGrantAfter = (
  { kind, purpose, id, afterWithdrawal }: ConsentEventRecord,
  wanted: string,
  withdrawal: ConsentEventRecord | null,
): boolean =>
  kind === 'grant' &&
  purpose === wanted &&
  (withdrawal === null || (id > withdrawal.id && afterWithdrawal === withdrawal.id));

/**
 * Grants to a purpose that count, oldest first. A withdrawal ends all that were recorded before it, at any instant: after
 * it nobody may use them, also not "as of yesterday". Of later ones those count that say that they were given after it.
 */
export function countingGrants(events: readonly ConsentEventRecord[], purpose: string): ConsentEventRecord[] {
  const withdrawal = lastWithdrawal(events, purpose);
  return events.filter((event) => isGrantAfter(event, purpose, withdrawal)).sort((a, b) => a.id - b.id);
}

/** The grant that holds at an instant, or has held last: the newest of those that have begun; null when none has. */
export function grantInForce(grants: readonly ConsentEventRecord[], at: string): ConsentEventRecord | null {
  const instant = Date.parse(at);
  return grants.findLast((grant) => Date.parse(grant.validFrom) <= instant) ?? null;
}

/**
 * Whether `purpose` is allowed at the instant `at`, judged by everything recorded so far.
 * @param events of one subject, in any order; other purposes are left out of account
 * @param at ISO 8601
 */
export function consentStatus(
  events: readonly ConsentEventRecord[],
  purpose: string,
  at: string,
): ConsentStatus {
  const grants = countingGrants(events, purpose);
  if (grants.length === 0) return lastWithdrawal(events, purpose) === null ? 'none' : 'withdrawn';
  const inForce = grantInForce(grants, at);
  if (inForce === null) return 'not-yet-valid';
  const isOver = inForce.expiresAt !== null && Date.parse(inForce.expiresAt) <= Date.parse(at);
  return isOver ? 'expired' : 'active';
}

function understood<T>(schema: z.ZodType<T>, input: unknown): T {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new AppError(
    'CONSENT_INVALID',
    `The consent record's ${issue.path.join('.')} is invalid: ${issue.message}.`,
    { cause: parsed.error },
  );
}
