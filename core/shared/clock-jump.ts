/** Notices that the clock of this machine was set, against time that only goes by. */

export interface Clock {
  /** What the machine shows, ms since 1970. */
  wallMs(): number;
  /** Monotonic; stands still while the machine is suspended. */
  steadyMs(): number;
}

export const machineClock: Clock = { wallMs: () => Date.now(), steadyMs: () => performance.now() };

/** Time servers set a clock by less, and nobody notices. */
const toleranceMs = 10_000;

/** @returns asks by how many ms the clock has jumped since it was asked last; 0 when it goes as it should. A suspended machine's jumps ahead */
export function createJumpWatch({ wallMs, steadyMs }: Clock): () => number {
  let offsetMs = wallMs() - steadyMs();
  return () => {
    const nowMs = wallMs() - steadyMs();
    const byMs = Math.round(nowMs - offsetMs);
    if (Math.abs(byMs) <= toleranceMs) return 0;
    offsetMs = nowMs;
    return byMs;
  };
}
