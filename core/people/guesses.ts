/**
 * How often somebody may try a password: a name that was tried in vain waits longer each time, and all names together
 * have a limit, so that going through the names brings nothing either. In memory: whoever can restart Anneal has the
 * operating system's account, and with it the data folder.
 */
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { AppError } from '../shared/errors.ts';

/** Wrong tries of one name before the first wait. */
const freeTries = 5;
const firstWaitSeconds = 15;
const longestWaitSeconds = 15 * 60;
/** Wrong tries of all names in a minute. */
const triesPerMinute = 30;
const daySeconds = 24 * 3600;

export interface Guesses {
  /** @throws AppError TOO_MANY_TRIES */
  mayTry(name: string): Promise<void>;
  /** @returns true when from now on the name waits */
  failed(name: string): Promise<boolean>;
  succeeded(name: string): Promise<void>;
}

export function createGuesses(): Guesses {
  const failures = new RateLimiterMemory({ points: freeTries, duration: daySeconds });
  const waits = new RateLimiterMemory({ points: 1, duration: longestWaitSeconds });
  const all = new RateLimiterMemory({ points: triesPerMinute, duration: 60 });
  return {
    async mayTry(name) {
      const wait = await waits.get(name);
      if (wait !== null) throw tooMany(wait.msBeforeNext);
      const shared = await all.get('all');
      if (shared !== null && shared.consumedPoints >= triesPerMinute) throw tooMany(shared.msBeforeNext);
    },
    async failed(name) {
      await all.penalty('all');
      const { consumedPoints } = await failures.penalty(name);
      if (consumedPoints < freeTries) return false;
      const seconds = Math.min(firstWaitSeconds * 2 ** (consumedPoints - freeTries), longestWaitSeconds);
      await waits.block(name, seconds);
      return true;
    },
    async succeeded(name) {
      await Promise.all([failures.delete(name), waits.delete(name)]);
    },
  };
}

function tooMany(waitMs: number): AppError {
  const seconds = Math.max(1, Math.ceil(waitMs / 1000));
  const words = seconds < 60 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`;
  return new AppError('TOO_MANY_TRIES', `Too many wrong passwords; the next try is possible in ${words}.`);
}
