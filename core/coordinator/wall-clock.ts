/** Notices when somebody, or a time server, sets the clock of this computer while the process runs. */

/** What a time server corrects while it goes along is no jump: a deadline may be off by so much. */
const leastJumpMs = 5_000;

export interface Clock {
  /** What the computer shows, ms since 1970. */
  wallMs(): number;
  /** Monotonic (ms); stands still while the computer sleeps. */
  steadyMs(): number;
}

export const machineClock: Clock = { wallMs: () => Date.now(), steadyMs: () => performance.now() };

export interface WallClockWatch {
  /** By how much the clock was set since this was asked last: forward, or back (negative). 0 when it was not. */
  setByMs(): number;
}

/** A computer that slept comes back with its clock set forward: nobody could reach it meanwhile, so no deadline ran, either. */
export function watchWallClock({ wallMs, steadyMs }: Clock = machineClock): WallClockWatch {
  let before = { wall: wallMs(), steady: steadyMs() };
  return {
    setByMs() {
      const now = { wall: wallMs(), steady: steadyMs() };
      const byMs = Math.round(now.wall - before.wall - (now.steady - before.steady));
      before = now;
      return Math.abs(byMs) < leastJumpMs ? 0 : byMs;
    },
  };
}
