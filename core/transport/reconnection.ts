/** How long a lost connection takes to come back: the one place for these times, which others wait for. */

/** Waits between attempts double from first to max, each shortened at random by up to half. */
export const backoffMs = { first: 250, max: 30_000 };

export const connectTimeoutMs = 15_000;

/** After its time-out an attempt is given up within this. */
export const giveUpMs = 1_000;

/**
 * Until whoever lost a broker is connected again that is there again, at most: an attempt that began while it was away is given up,
 * the longest wait follows, and the next attempt succeeds in its time.
 */
export const longestReconnectMs = backoffMs.max + 2 * (connectTimeoutMs + giveUpMs);
