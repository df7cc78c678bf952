/** The sites' clocks beside that of this coordinator: whose is wrong, as far as many clocks tell. */
import { aboutHowLong } from '../shared/clock-words.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import { type ClockDifference, isClockWrong } from '../transport/messages.ts';

export type WrongClock = AppError;

export interface ClockBook {
  /** @returns whether people should hear of it */
  note(siteId: string, difference: ClockDifference | null): boolean;
  of(siteId: string): ClockDifference | null;
  /** Whose clock is wrong where this site's and the coordinator's differ. */
  verdictOn(siteId: string): 'site' | 'coordinator' | 'unknown';
  /** Null while the site's clock is right, or nothing is known of it. */
  sentenceOn(siteId: string): string | null;
  /** Null unless the clocks of most sites say that this one is wrong. */
  own(): WrongClock | null;
}

/** A difference is measured with each hello; an older one says nothing any more. */
const keptMs = 10 * 60_000;
/** Clocks that agree, give or take. */
const togetherMs = 4 * 60_000;

/** @param now monotonic (ms) */
export function createClockBook(now: () => number = () => performance.now()): ClockBook {
  const noted = new Map<string, { difference: ClockDifference; at: number }>();

  const fresh = () => [...noted].filter(([, { at }]) => now() - at < keptMs);

  function of(siteId: string): ClockDifference | null {
    const found = noted.get(siteId);
    return found !== undefined && now() - found.at < keptMs ? found.difference : null;
  }

  /** Two sites or more, and more than half of all, that differ in the same way: then it is this clock. */
  function ownAheadMs(): { aheadMs: number; sites: number; of: number } | null {
    const all = fresh().map(([, { difference }]) => difference);
    const wrong = all
      .filter(isClockWrong)
      .map(({ aheadMs }) => aheadMs)
      .sort((a, b) => a - b);
    const middle = wrong[Math.floor(wrong.length / 2)];
    if (middle === undefined) return null;
    const together = wrong.filter((aheadMs) => Math.abs(aheadMs - middle) <= togetherMs).length;
    return together >= 2 && 2 * together > all.length
      ? { aheadMs: -middle, sites: together, of: all.length }
      : null;
  }

  function verdictOn(siteId: string): 'site' | 'coordinator' | 'unknown' {
    const own = ownAheadMs();
    const difference = of(siteId);
    if (difference === null) return 'unknown';
    if (own !== null)
      return Math.abs(difference.aheadMs + own.aheadMs) <= togetherMs ? 'coordinator' : 'unknown';
    const agreeing = fresh().filter(([id, other]) => id !== siteId && !isClockWrong(other.difference)).length;
    return agreeing > 0 ? 'site' : 'unknown';
  }

  return {
    note(siteId, difference) {
      const before = of(siteId);
      if (difference === null) return false;
      noted.set(siteId, { difference, at: now() });
      const wasWrong = before !== null && isClockWrong(before);
      return wasWrong !== isClockWrong(difference);
    },
    of,
    verdictOn,
    sentenceOn(siteId) {
      const difference = of(siteId);
      if (difference === null || !isClockWrong(difference)) return null;
      const { aheadMs } = difference;
      const said = `The clock of this site is ${aboutHowLong(aheadMs)} ${aheadMs > 0 ? 'ahead of' : 'behind'} the coordinator's.`;
      const verdict = verdictOn(siteId);
      if (verdict === 'site')
        return `${said} Other sites agree with the coordinator: ask this site to set its clock right.`;
      if (verdict === 'coordinator')
        return `${said} Other sites differ in the same way: it is the coordinator's clock that is wrong.`;
      return `${said} Compare both with a clock that is right.`;
    },
    own() {
      const own = ownAheadMs();
      if (own === null) return null;
      const { aheadMs, sites, of: all } = own;
      return new AppError(
        'CLOCK_DIFFERS',
        `The clock of this computer is ${aboutHowLong(aheadMs)} ${aheadMs > 0 ? 'ahead of' : 'behind'} those of ${sites} of ${plural(all, 'site')}.`,
      );
    },
  };
}
