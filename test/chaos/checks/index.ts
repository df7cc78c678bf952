/** Every invariant, one function each. docs/reliability.md says the same in words. */
import { consentedUpdates, keptDecisions, servedUpdates, stoppedSites } from './consents.ts';
import { type Known, nothingKnown, sameBytes } from './determinism.ts';
import type { Evidence, Violation } from './evidence.ts';
import { wholeFiles, wholeTrails } from './integrity.ts';
import { type Arrivals, lostUpdates } from './lost-updates.ts';
import { boundedDisk, boundedMemory, everybodyBack, noMishaps, quietLogs } from './machines.ts';
import { allRounds, countedOnce } from './rounds.ts';

export interface Checker {
  check(evidence: Evidence): Violation[];
  readonly known: Known;
  readonly arrivals: Arrivals;
  /** Errors in logs that were handled, by member and message. */
  readonly loggedErrors: ReadonlyMap<string, number>;
}

export function createChecker(): Checker {
  const known = nothingKnown();
  const arrivals: Arrivals = { announced: 0, counted: 0 };
  const loggedErrors = new Map<string, number>();
  const checks: ((evidence: Evidence) => Violation[])[] = [
    allRounds,
    countedOnce,
    (evidence) => sameBytes(evidence, known),
    (evidence) => lostUpdates(evidence, arrivals),
    wholeFiles,
    wholeTrails,
    consentedUpdates,
    keptDecisions,
    servedUpdates,
    stoppedSites,
    noMishaps,
    everybodyBack,
    boundedMemory,
    boundedDisk,
    (evidence) => {
      loggedErrors.clear();
      return quietLogs(evidence, loggedErrors);
    },
  ];
  return {
    known,
    arrivals,
    loggedErrors,
    check: (evidence) => checks.flatMap((check) => check(evidence)),
  };
}
