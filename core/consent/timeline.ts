/** What happened to the consents of one subject, in order: what people recorded, and what the clock alone changed. */
import type { ConsentEventRecord } from '../store/records.ts';
import { consentStatus, countingGrants, everyPurpose, grantInForce, lastWithdrawal } from './consent.ts';
import { endOfTime } from './period.ts';
import { purposesOf } from './purposes.ts';

/**
 * What an event did. Of grants: the first one, one that ends later, earlier or at the same time than the one before, one
 * after a withdrawal, one that does not count because it is dated before a withdrawal. Of withdrawals: `refused` when
 * there was nothing to withdraw. `ended`: the term of a consent was over, and no newer one held.
 */
export type TimelineChange =
  | 'granted'
  | 'renewed'
  | 'shortened'
  | 'replaced'
  | 'granted-again'
  | 'without-effect'
  | 'withdrawn'
  | 'refused'
  | 'ended';

export interface TimelineEntry {
  change: TimelineChange;
  /** `*` for a withdrawal from every purpose. */
  purpose: string;
  /** When it took place, ISO 8601 UTC: when it was recorded, or when the term was over. */
  at: string;
  /** What was recorded; of an end, the consent that ended. */
  event: ConsentEventRecord;
}

/**
 * @param events of one subject, in any order
 * @param at ISO 8601 UTC; ends after it are left out
 * @returns oldest first
 */
export function consentTimeline(events: readonly ConsentEventRecord[], at: string): TimelineEntry[] {
  const ordered = [...events].sort((a, b) => a.id - b.id);
  const recorded = ordered.map((event, index): TimelineEntry => {
    const before = ordered.slice(0, index);
    const change = event.kind === 'grant' ? changeByGrant(before, event) : changeByWithdrawal(before, event);
    return { change, purpose: event.purpose, at: event.recordedAt, event };
  });
  const ended = ordered.filter((event) => hasEnded(ordered, event, at));
  const ends = ended.map(
    (event): TimelineEntry => ({ change: 'ended', purpose: event.purpose, at: event.expiresAt!, event }),
  );
  return [...recorded, ...ends].sort(
    (a, b) => Date.parse(a.at) - Date.parse(b.at) || a.event.id - b.event.id,
  );
}

function changeByGrant(before: readonly ConsentEventRecord[], grant: ConsentEventRecord): TimelineChange {
  const withdrawal = lastWithdrawal(before, grant.purpose);
  if (!countingGrants([...before, grant], grant.purpose).includes(grant)) return 'without-effect';
  const last = countingGrants(before, grant.purpose).at(-1);
  if (last === undefined) return withdrawal === null ? 'granted' : 'granted-again';
  const [was, is] = [last.expiresAt ?? endOfTime, grant.expiresAt ?? endOfTime].map((end) => Date.parse(end));
  return is! > was! ? 'renewed' : is! < was! ? 'shortened' : 'replaced';
}

function changeByWithdrawal(
  before: readonly ConsentEventRecord[],
  { purpose }: ConsentEventRecord,
): TimelineChange {
  const purposes = purpose === everyPurpose ? purposesOf(before) : [purpose];
  return purposes.some((one) => countingGrants(before, one).length > 0) ? 'withdrawn' : 'refused';
}

/** Whether the term of a grant was over while it was the one in force. */
function hasEnded(events: readonly ConsentEventRecord[], grant: ConsentEventRecord, at: string): boolean {
  const { kind, purpose, expiresAt } = grant;
  if (kind !== 'grant' || expiresAt === null || Date.parse(expiresAt) > Date.parse(at)) return false;
  const end = Date.parse(expiresAt);
  const known = events.filter(({ recordedAt }) => Date.parse(recordedAt) <= end);
  if (!known.includes(grant)) return false;
  const justBefore = new Date(end - 1).toISOString();
  return (
    grantInForce(countingGrants(known, purpose), justBefore) === grant &&
    consentStatus(known, purpose, expiresAt) === 'expired'
  );
}
