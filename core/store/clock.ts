/**
 * The latest time that this store has seen. A clock that runs back would make a consent active that is over, so consents
 * are judged at the latest time known until the clock has caught up, or an administrator says that it is right.
 */
import { z } from 'zod';
import type { createSettings } from './federation-tables.ts';
import type { Sqlite } from './sqlite.ts';

export interface ClockFault {
  /** What the clock shows, ISO 8601 UTC. */
  now: string;
  /** What it has shown before. */
  latest: string;
}

/** Time servers set a clock back by less. Summer time is no matter: all times are UTC. */
const toleranceMs = 2 * 60_000;
/** A restart within this time may find a clock that ran back by less. */
const rememberEveryMs = 60_000;

const setting = 'clock.latest';
const timeSchema = z.iso.datetime();
const rowSchema = z.object({ at: z.string() });

/** Times sort as text. */
const later = (a: string, b: string): string => [a, b].sort()[1]!;

export function createClock(db: Sqlite, now: () => string, settings: ReturnType<typeof createSettings>) {
  /** The newest row of the trail counts too: an older version of Anneal kept no time, and a setting is easily edited. */
  function remembered(): string {
    const kept = settings.get(setting, timeSchema) ?? '';
    const { at } = db.get(rowSchema, 'SELECT at FROM audit ORDER BY seq DESC LIMIT 1') ?? { at: '' };
    return later(kept, at);
  }
  function latest(): string {
    return later(remembered(), now());
  }
  return {
    /** The latest time known, ISO 8601 UTC: at it consents are judged. Never before the clock. */
    latest,
    /** Null while the clock is right, give or take two minutes. */
    fault(): ClockFault | null {
      const [kept, current] = [remembered(), now()];
      return Date.parse(kept) - Date.parse(current) > toleranceMs ? { now: current, latest: kept } : null;
    },
    /** Writes the time down. @param always also when that was done a moment ago */
    remember(always = false): void {
      const time = latest();
      const kept = settings.get(setting, timeSchema);
      if (kept !== null && !always && Date.parse(time) - Date.parse(kept) < rememberEveryMs) return;
      settings.set(setting, time);
    },
    /** Takes the clock's time for the right one. The caller has written an audit row that says so, in the same transaction. */
    reset(): void {
      settings.set(setting, now());
    },
  };
}

export type Clock = ReturnType<typeof createClock>;
