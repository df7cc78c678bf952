/** Which subjects of the list are shown. */

import type { PurposeConsent, SubjectRow } from '../../core/api/contract.ts';
import { noticeDays } from '../../core/config/consent-defaults.ts';
import { consentWords, type StatusWord } from './words.ts';

export interface SubjectFilter {
  /** Part of a pseudonym or of a label; letter case ignored. */
  search: string;
  /** Empty: any. */
  purpose: string;
  status: PurposeConsent['status'] | 'ends-soon' | '';
  label: string;
}

export const noFilter: SubjectFilter = { search: '', purpose: '', status: '', label: '' };

/** Whether an active consent is over within {@link noticeDays}, with all that is recorded to go on from it. */
export const endsSoon = ({ endsAt }: PurposeConsent, nowMs = Date.now()): boolean =>
  endsAt !== null && Date.parse(endsAt) - nowMs <= noticeDays * 24 * 3_600_000;

/** State of a consent for its badge. */
export const stateWord = (consent: PurposeConsent, nowMs = Date.now()): StatusWord =>
  endsSoon(consent, nowMs) ? { label: 'Ends soon', color: 'yellow' } : consentWords[consent.status];

/** Of those that fit, the ones whose consent ends soon come in the order of their ends. */
export function filterSubjects(
  rows: readonly SubjectRow[],
  { search, purpose, status, label }: SubjectFilter,
  nowMs = Date.now(),
): SubjectRow[] {
  const wanted = comparable(search.trim());
  const isOfState = (consent: PurposeConsent) =>
    status === 'ends-soon' ? endsSoon(consent, nowMs) : status === '' || consent.status === status;
  const fits = (row: SubjectRow): boolean => {
    const texts = [row.pseudonym, ...row.labels].map(comparable);
    if (wanted !== '' && !texts.some((text) => text.includes(wanted))) return false;
    if (label !== '' && !row.labels.includes(label)) return false;
    const own = row.consents.filter((consent) => purpose === '' || consent.purpose === purpose);
    // Nobody has asked: there is nothing recorded that could have a state.
    if (own.length === 0) return status === 'none' || (status === '' && purpose === '');
    return own.some(isOfState);
  };
  const shown = rows.filter(fits);
  if (status !== 'ends-soon') return shown;
  const endOf = (row: SubjectRow) =>
    Math.min(
      ...row.consents
        .filter((consent) => (purpose === '' || consent.purpose === purpose) && endsSoon(consent, nowMs))
        .map(({ endsAt }) => Date.parse(endsAt!)),
    );
  return shown.sort((a, b) => endOf(a) - endOf(b));
}

/** Two ways of writing `é` are the same to whoever searches. */
const comparable = (text: string): string => text.normalize('NFC').toLocaleLowerCase();

/** Values that the rows have, for lists to choose from. */
export function choicesOf(rows: readonly SubjectRow[]): { purposes: string[]; labels: string[] } {
  const sorted = (values: string[]) => [...new Set(values)].sort((a, b) => a.localeCompare(b));
  return {
    purposes: sorted(
      rows.flatMap(({ consents }) => consents.map(({ purpose }) => purpose)).filter((one) => one !== '*'),
    ),
    labels: sorted(rows.flatMap(({ labels }) => labels)),
  };
}
