/** Consents in the words of the people who record them. */
import type { ConsentTerm, PurposeConsent, TimelineRow } from '../../core/api/subject-contract.ts';
import { formatDate, formatDateTime, formatDay } from './format.ts';

/** When a consent begins: a day as it was meant, or a moment. */
export function termStart(
  { firstDay, from }: Pick<ConsentTerm, 'firstDay' | 'from'>,
  locale?: string,
): string {
  return firstDay === null ? formatDateTime(from, undefined, locale) : formatDay(firstDay, locale);
}

/** People write the year 9999 for "never". */
const isEndless = (until: string | null): boolean => until === null || until >= '9999';

/** The last day of a consent as it was meant. */
export function termEnd({ lastDay, until }: Pick<ConsentTerm, 'lastDay' | 'until'>, locale?: string): string {
  if (isEndless(until)) return 'no end date';
  return lastDay === null ? formatDateTime(until, undefined, locale) : formatDay(lastDay, locale);
}

/** `22 Nov 2026 – 31 Dec 2027`, `from 22 Nov 2026, no end date`. */
export function termWords(term: ConsentTerm, locale?: string): string {
  if (isEndless(term.until)) return `from ${termStart(term, locale)}, no end date`;
  return `${termStart(term, locale)} – ${termEnd(term, locale)}`;
}

/** What the state of a consent means now, beside its badge; null when there is no more to say. */
export function purposeNote({ status, next, withdrawal }: PurposeConsent, locale?: string): string | null {
  if (next !== null) return `${status === 'not-yet-valid' ? 'Begins' : 'Next'}: ${termWords(next, locale)}`;
  if (status === 'withdrawn' && withdrawal !== null)
    return `Withdrawn on ${formatDate(withdrawal.validFrom, undefined, locale)}, recorded by ${withdrawal.recordedBy}`;
  return null;
}

/** There is something to withdraw. */
export const holdsOrWill = ({ status }: PurposeConsent): boolean =>
  status === 'active' || status === 'not-yet-valid';

/** The end of a consent that holds or has held, and what comes next; that of a withdrawn one would mislead. */
export function validWords(consent: PurposeConsent, locale?: string): string {
  const { status, term, next } = consent;
  const parts: (string | null)[] = [];
  if (term !== null && status !== 'withdrawn') {
    const end = termEnd(term, locale);
    parts.push(isEndless(term.until) ? end : `${status === 'expired' ? 'ended' : 'until'} ${end}`);
  }
  if (next !== null) parts.push(purposeNote(consent, locale));
  return parts.filter((part) => part !== null).join(' · ');
}

export const changeWords: Record<TimelineRow['change'], { label: string; color: string }> = {
  granted: { label: 'Consent given', color: 'green' },
  renewed: { label: 'Renewed', color: 'green' },
  shortened: { label: 'Shortened', color: 'yellow' },
  replaced: { label: 'Recorded anew, same end', color: 'gray' },
  'granted-again': { label: 'Consent given again', color: 'green' },
  'without-effect': { label: 'Recorded, but older than the withdrawal: it does not count', color: 'gray' },
  withdrawn: { label: 'Withdrawn', color: 'red' },
  refused: { label: 'Refused', color: 'red' },
  ended: { label: 'Ended', color: 'yellow' },
};

export const giverWords: Record<NonNullable<TimelineRow['givenBy']>, string> = {
  subject: 'the person',
  guardian: 'a parent or guardian',
  representative: 'a legal representative',
};
