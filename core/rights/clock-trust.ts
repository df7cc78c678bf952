/**
 * Whether this computer's clock may delete. One that jumps a year ahead would end every consent, and what was deleted does
 * not come back when it is set right. So after a jump nothing is deleted because of the time until the agent has run for a
 * day, or a person says that the clock is right.
 */
import { z } from 'zod';
import { confirmClock } from '../consent/site-clock.ts';
import type { Store } from '../store/store.ts';

const setting = 'rights.clock';
const seenSchema = z.strictObject({
  /** The latest time that was believed. */
  seenAt: z.iso.datetime(),
  /** How long the agent has run since it doubts. */
  doubtedMs: z.number().min(0),
});

/** A site may be off for a month. */
export const longestGapMs = 31 * 24 * 3_600_000;
export const runningDayMs = 24 * 3_600_000;

export interface ClockTrust {
  /** Call it now and then. @returns whether the clock may delete */
  look(): boolean;
  /** A person says that the clock is right. */
  confirm(actor: string): void;
}

/** @param uptimeMs of a clock that nobody sets; for tests */
export function createClockTrust(store: Store, uptimeMs = () => performance.now()): ClockTrust {
  let lookedAt = uptimeMs();

  function seen(): z.infer<typeof seenSchema> {
    const known = store.settings.get(setting, seenSchema);
    if (known !== null) return known;
    // An older version has left the times of its audit rows.
    return { seenAt: store.audit.page({ limit: 1 })[0]?.at ?? store.now(), doubtedMs: 0 };
  }

  return {
    look() {
      const { seenAt, doubtedMs } = seen();
      const ranMs = uptimeMs() - lookedAt;
      lookedAt += ranMs;
      const now = store.now();
      const isInDoubt =
        store.clock.fault() !== null || Date.parse(now) - Date.parse(seenAt) > Math.max(longestGapMs, ranMs);
      const doubted = isInDoubt ? doubtedMs + ranMs : 0;
      const trusts = store.clock.fault() === null && (!isInDoubt || doubted >= runningDayMs);
      store.settings.set(setting, trusts ? { seenAt: now, doubtedMs: 0 } : { seenAt, doubtedMs: doubted });
      return trusts;
    },
    confirm(actor) {
      store.transaction(() => {
        // Nothing is due by a clock that is behind what it has shown: consents are to be judged by it first.
        confirmClock(store, actor);
        const { seenAt } = seen();
        store.settings.set(setting, { seenAt: store.now(), doubtedMs: 0 });
        store.audit.append({ actor, action: 'retention.clock-confirmed', details: { before: seenAt } });
      });
    },
  };
}
