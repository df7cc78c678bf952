/** Consent of a subject to a purpose: recorded as events, judged at an instant. */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import type { ConsentEventRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { endOfPeriod, startOfPeriod } from './period.ts';

/** In a withdrawal: from every purpose. */
export const everyPurpose = '*';

export type ConsentStatus = 'active' | 'withdrawn' | 'expired' | 'none' | 'not-yet-valid';

export interface ConsentGrant {
  pseudonym: string;
  /** What may be done with the photographs, for instance `federated-training`. */
  purpose: string;
  /** Version of the form that was signed. */
  documentVersion: string;
  /** ISO 8601 date (from its first moment here) or date-time with offset. */
  validFrom: string;
  /** ISO 8601 date (that day still counts) or date-time with offset (the first instant that does not). */
  expiresAt?: string | null | undefined;
  /** Who entered it: a role or account, never the subject. */
  recordedBy: string;
}

const word = z.string().trim().min(1).max(200);
const grantSchema = z.object({
  pseudonym: word,
  purpose: word.refine((purpose) => purpose !== everyPurpose, 'must be one purpose'),
  documentVersion: word,
  validFrom: z.string().transform(startOfPeriod),
  expiresAt: z.string().transform(endOfPeriod).nullish(),
  recordedBy: word,
});

/**
 * Appends a grant; makes the subject if it is new. The newest grant that has begun replaces older ones, so a shorter
 * term given later holds.
 * @throws AppError CONSENT_INVALID
 */
export function recordConsent(store: Store, grant: ConsentGrant): ConsentEventRecord {
  const { pseudonym, recordedBy, ...terms } = understood(grantSchema, grant);
  const expiresAt = terms.expiresAt ?? null;
  if (expiresAt !== null && expiresAt <= terms.validFrom) {
    throw new AppError('CONSENT_INVALID', `The consent of "${pseudonym}" ends before it begins.`);
  }
  return store.transaction(() => {
    const subject = store.subjects.upsert({ pseudonym });
    const withdrawal = lastWithdrawal(store.consentEvents.ofSubject(subject.id), terms.purpose);
    const validFrom = startAfter(withdrawal, grant.validFrom, terms.validFrom);
    if (validFrom === null) throw olderThan(withdrawal!, pseudonym);
    const details = { ...terms, validFrom, expiresAt };
    const event = store.consentEvents.append({
      ...details,
      subjectId: subject.id,
      kind: 'grant',
      recordedBy,
    });
    const ref = store.subjects.refOf(pseudonym);
    store.audit.append({
      actor: recordedBy,
      action: 'consent.granted',
      details: { subject: ref, ...details },
    });
    return event;
  });
}

const withdrawalSchema = z.object({ pseudonym: word, purpose: word.default(everyPurpose), recordedBy: word });

/**
 * Takes effect at once, whatever the clock says later. Without `purpose`: from every purpose. Possible without an
 * earlier grant: a refusal is worth recording, too.
 * @throws AppError SUBJECT_UNKNOWN | CONSENT_INVALID
 */
export function withdrawConsent(
  store: Store,
  withdrawal: { pseudonym: string; purpose?: string | undefined; recordedBy: string },
): ConsentEventRecord {
  const { pseudonym, purpose, recordedBy } = understood(withdrawalSchema, withdrawal);
  return store.transaction(() => {
    const subject = store.subjects.byPseudonym(pseudonym);
    if (subject === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${pseudonym}".`);
    const now = store.now();
    const event = store.consentEvents.append({
      subjectId: subject.id,
      kind: 'withdraw',
      purpose,
      documentVersion: null,
      validFrom: now,
      expiresAt: null,
      recordedAt: now,
      recordedBy,
    });
    const ref = store.subjects.refOf(pseudonym);
    store.audit.append({
      actor: recordedBy,
      action: 'consent.withdrawn',
      details: { subject: ref, purpose },
    });
    return event;
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

/**
 * From when a grant holds that is recorded after a withdrawal: one dated before it was given before it, too, and brings
 * nothing back. A date means that day: on the day of the withdrawal it holds from the withdrawal on.
 * @param written as a person gave it, and the instant that it means
 * @returns null when it does not count
 */
function startAfter(
  withdrawal: ConsentEventRecord | null,
  written: string,
  validFrom: string,
): string | null {
  if (withdrawal === null || validFrom >= withdrawal.validFrom) return validFrom;
  const isThatDay =
    z.iso.date().safeParse(written.trim()).success && endOfDay(written) > withdrawal.validFrom;
  return isThatDay ? withdrawal.validFrom : null;
}

/** First instant after a date. */
const endOfDay = (date: string): string => z.string().transform(endOfPeriod).parse(date);

const olderThan = ({ validFrom }: ConsentEventRecord, pseudonym: string) =>
  new AppError(
    'CONSENT_INVALID',
    `"${pseudonym}" has withdrawn on ${validFrom.slice(0, 10)}; a consent that was given before does not count any more.`,
    { action: 'If there is a new consent, record it with the date on which it was given.' },
  );

/**
 * Whether `purpose` is allowed at the instant `at`, judged by everything recorded so far. A withdrawal ends all grants
 * recorded before it, at any instant: after it nobody may use them, also not "as of yesterday". Nor may grants that were
 * recorded later and are dated before it: an old list must not undo a withdrawal.
 * @param events of one subject, in any order; other purposes are left out of account
 * @param at ISO 8601
 */
export function consentStatus(
  events: readonly ConsentEventRecord[],
  purpose: string,
  at: string,
): ConsentStatus {
  const withdrawal = lastWithdrawal(events, purpose);
  const grants = events
    .filter(
      (event) =>
        event.kind === 'grant' &&
        event.purpose === purpose &&
        (withdrawal === null || (event.id > withdrawal.id && event.validFrom >= withdrawal.validFrom)),
    )
    .sort((a, b) => a.id - b.id);
  if (grants.length === 0) return withdrawal === null ? 'none' : 'withdrawn';
  const instant = Date.parse(at);
  const inForce = grants.findLast((grant) => Date.parse(grant.validFrom) <= instant);
  if (inForce === undefined) return 'not-yet-valid';
  return inForce.expiresAt !== null && Date.parse(inForce.expiresAt) <= instant ? 'expired' : 'active';
}

function understood<T>(schema: z.ZodType<T>, input: unknown): T {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new AppError(
    'CONSENT_INVALID',
    `The consent record's ${issue.path.join('.')} is invalid: ${issue.message}.`,
    {
      cause: parsed.error,
    },
  );
}
