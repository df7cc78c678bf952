/** Several rows about one subject: what they say together. */
import { everyPurpose } from '../../consent/consent.ts';
import { samePurpose } from '../../consent/purpose-names.ts';
import { quote } from '../../shared/visible-text.ts';
import type { ProblemList } from './problems.ts';
import type { ConsentRow } from './rows.ts';

export interface SettledConsents {
  /** Each once; withdrawals first, then grants in the order in which they begin. */
  consents: ConsentRow[];
  /** One row says withdrawn and another granted: the withdrawal counts, whichever is older. */
  contradictions: { subject: string; lines: number[] }[];
}

/**
 * A withdrawal wins. Grants that begin at different times are a history, and all are kept; grants that differ otherwise
 * are a problem, since nobody can say which one holds.
 */
export function settleConsents(
  rows: readonly ConsentRow[],
  column: string,
  problems: ProblemList,
): SettledConsents {
  const withdrawals: ConsentRow[] = [];
  const others: ConsentRow[] = [];
  const contradictions: SettledConsents['contradictions'] = [];
  for (const [subject, all] of Map.groupBy(rows, (row) => row.subject)) {
    const withdrawn = all.filter(({ consent }) => consent.kind === 'withdrawn');
    const isWithdrawn = (purpose: string) =>
      withdrawn.some(
        ({ consent }) => samePurpose(consent.purpose, purpose) || consent.purpose === everyPurpose,
      );
    withdrawals.push(...once(withdrawn));
    const rest = all.filter(({ consent }) => consent.kind !== 'withdrawn');
    const overruled = rest.filter(
      ({ consent }) => consent.kind === 'granted' && isWithdrawn(consent.purpose),
    );
    if (overruled.length > 0) {
      const lines = [...withdrawn, ...overruled].map(({ line }) => line).sort((a, b) => a - b);
      contradictions.push({ subject, lines });
    }
    const left = rest.filter(({ consent }) => !isWithdrawn(consent.purpose));
    for (const ofPurpose of Map.groupBy(left, ({ consent }) => consent.purpose).values()) {
      checkGrants(ofPurpose, column, problems);
      others.push(...once(ofPurpose));
    }
  }
  const begin = ({ consent }: ConsentRow) => consent.validFrom ?? '';
  others.sort((a, b) => (begin(a) < begin(b) ? -1 : begin(a) > begin(b) ? 1 : 0));
  return { consents: [...withdrawals, ...others], contradictions };
}

function once(rows: readonly ConsentRow[]): ConsentRow[] {
  const seen = new Map<string, ConsentRow>();
  for (const row of rows) {
    const key = JSON.stringify(row.consent);
    if (!seen.has(key)) seen.set(key, row);
  }
  return [...seen.values()];
}

function checkGrants(rows: readonly ConsentRow[], column: string, problems: ProblemList): void {
  const first = new Map<string, { line: number; text: string }>();
  for (const { line, subject, consent } of rows) {
    const text = JSON.stringify(consent);
    // Another kind or another term from the same day on.
    const key = rows.every((row) => row.consent.kind === 'granted' && row.consent.validFrom !== null)
      ? consent.validFrom!
      : '';
    const earlier = first.get(key);
    if (earlier === undefined) first.set(key, { line, text });
    else if (earlier.text !== text) {
      const message = `the consent of subject ${quote(subject)} differs from line ${earlier.line}.`;
      problems.add({ line, column, message });
    }
  }
}
