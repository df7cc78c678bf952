/** The clock of a site: consents are used while it is right, and the list of them is whole. */

import { formatMinute } from '../shared/clock-words.ts';
import { AppError } from '../shared/errors.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { consentStatus } from './consent.ts';
import { grantedPurposes } from './purpose-names.ts';

/** Null while the clock of this machine is right. */
export function clockFault(store: ReadOnlyStore): AppError | null {
  const fault = store.clock.fault();
  if (fault === null) return null;
  return new AppError(
    'CLOCK_RAN_BACK',
    `The clock of this machine shows ${formatMinute(fault.now)}, but it has shown ${formatMinute(fault.latest)} before.`,
  );
}

/**
 * What keeps consents from being used: the clock ran back, or the list does not fit the audit trail.
 * @throws AppError CLOCK_RAN_BACK | CONSENTS_CHANGED
 */
export function assertConsentsHold(store: ReadOnlyStore): void {
  const fault = clockFault(store);
  if (fault !== null) throw fault;
  if (store.consentEvents.findBreak() !== null)
    throw new AppError('CONSENTS_CHANGED', 'The consents of this site were changed outside of Anneal.');
}

/**
 * Somebody has looked: the clock is right, and was wrong before. From now on consents are judged by it, so some that were
 * over by the wrong time are active again, which the trail counts; none that was withdrawn.
 * @returns consents that are active by this act; null when the clock was not behind
 */
export function confirmClock(store: Store, actor: string): { activeAgain: number } | null {
  return store.transaction(() => {
    const fault = store.clock.fault();
    if (fault === null) return null;
    const bySubject = [...Map.groupBy(store.consentEvents.all(), ({ subjectId }) => subjectId).values()];
    const isActive = (at: string) => (events: (typeof bySubject)[number]) =>
      grantedPurposes(events).filter((purpose) => consentStatus(events, purpose, at) === 'active');
    const activeAgain = bySubject
      .map((events) =>
        isActive(fault.now)(events).filter((purpose) => !isActive(fault.latest)(events).includes(purpose)),
      )
      .reduce((sum, purposes) => sum + purposes.length, 0);
    const details = { clock: fault.now, latestBefore: fault.latest, activeAgain };
    store.audit.append({ actor, action: 'clock-confirmed', details });
    store.clock.reset();
    return { activeAgain };
  });
}
