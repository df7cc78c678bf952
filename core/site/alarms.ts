/** Moments at which the clock alone changes what a site may do: a consent begins or ends, quiet hours begin. */
import { nextConsentChange } from '../consent/cohort.ts';
import type { ReadOnlyStore } from '../store/store.ts';
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

export function createAlarms(
  store: ReadOnlyStore,
  { onConsent, onQuietHours }: { onConsent(): void; onQuietHours(): void },
): Alarms {
  const timers = new Map<'consent' | 'quiet', NodeJS.Timeout>();

  function set(name: 'consent' | 'quiet', inMs: number | null, wake: () => void): void {
    clearTimeout(timers.get(name));
    if (inMs === null) return;
    timers.set(name, setTimeout(wake, Math.min(Math.max(0, inMs), longestTimerMs)).unref());
  }

  return {
    watchConsent(purpose) {
      const next = nextConsentChange(store, purpose);
      set('consent', next === null ? null : Date.parse(next) - Date.parse(store.now()), onConsent);
    },
    watchQuietHours(now) {
      const policy = publishedPolicy(store);
      set('quiet', policy === null ? null : msUntilQuiet(policy, now), onQuietHours);
    },
    close() {
      for (const timer of timers.values()) clearTimeout(timer);
    },
  };
}
