/**
 * Moments at which the clock alone changes what a site may do: a consent begins or ends, quiet hours begin, the clock runs
 * back or is right again.
 */
import { nextConsentChange } from '../consent/cohort.ts';
import { siteTimeZone } from '../consent/site-zone.ts';
import type { Store } from '../store/store.ts';
import { msUntilQuiet, publishedPolicy } from './policy.ts';

export interface Alarms {
  /** Wakes at the next begin or end of a consent to this purpose. */
  watchConsent(purpose: string): void;
  /** Wakes when the next quiet hours begin. */
  watchQuietHours(now: Date): void;
  close(): void;
}

/** Of Node; a longer one would end at once. One that ends early does no harm: it is looked again. */
const longestTimerMs = 2 ** 31 - 1;
/** The time is written down as often, so that a restart knows it. */
const clockEveryMs = 60_000;

export function createAlarms(
  store: Store,
  {
    onConsent,
    onQuietHours,
    onClock,
    onError,
    everyMs = clockEveryMs,
  }: {
    onConsent(): void;
    onQuietHours(): void;
    /** The clock ran back, or is right again. */
    onClock(): void;
    /** The store could not be read or written. */
    onError(error: unknown): void;
    /** How often the clock is looked at. */
    everyMs?: number | undefined;
  },
): Alarms {
  const timers = new Map<'consent' | 'quiet', NodeJS.Timeout>();

  function set(name: 'consent' | 'quiet', inMs: number | null, wake: () => void): void {
    clearTimeout(timers.get(name));
    if (inMs === null) return;
    timers.set(name, setTimeout(wake, Math.min(Math.max(0, inMs), longestTimerMs)).unref());
  }

  /** ISO 8601 UTC; what the timer of consents waits for. */
  let nextConsent: string | null = null;
  let wasWrong = store.clock.fault() !== null;
  const looking = setInterval(() => {
    // Also where the time cannot be written down now, a consent that is over is over.
    guarded(() => store.clock.remember());
    guarded(look);
  }, everyMs).unref();

  /** On a full disk, or while another program holds the database, the next look does it. */
  function guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      onError(error);
    }
  }

  function look(): void {
    // A timer waits too long when the machine sleeps, or its clock is set forward.
    if (nextConsent !== null && store.clock.latest() >= nextConsent) {
      nextConsent = null;
      onConsent();
    }
    const isWrong = store.clock.fault() !== null;
    if (isWrong === wasWrong) return;
    wasWrong = isWrong;
    onClock();
  }

  return {
    watchConsent(purpose) {
      const next = nextConsentChange(store, purpose);
      nextConsent = next;
      set('consent', next === null ? null : Date.parse(next) - Date.parse(store.clock.latest()), onConsent);
    },
    watchQuietHours(now) {
      const policy = publishedPolicy(store);
      set('quiet', policy === null ? null : msUntilQuiet(policy, now, siteTimeZone(store)), onQuietHours);
    },
    close() {
      clearInterval(looking);
      for (const timer of timers.values()) clearTimeout(timer);
    },
  };
}
