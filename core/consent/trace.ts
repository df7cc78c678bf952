/** Which rounds and models a subject took part in. */
import type { ReadOnlyStore } from '../store/store.ts';
import { cohortsTouchedBySubject } from './cohort.ts';

export interface TraceReport {
  pseudonym: string;
  /** Oldest first. Adapters in the order of their rounds. */
  runs: { runId: string; rounds: number[]; globalAdapters: string[] }[];
}

/**
 * Runs and rounds whose cohort held an image of the subject, and every global adapter that came of them: those of
 * the first such round and of all later rounds of the run, which build upon it, and those of later runs that start
 * from one of these. Errs on the side of naming too many: whether the coordinator took a round's update is not asked.
 * @throws AppError SUBJECT_UNKNOWN
 */
export function traceSubject(store: ReadOnlyStore, pseudonym: string): TraceReport {
  const cohorts = Map.groupBy(cohortsTouchedBySubject(store, pseudonym), (cohort) => cohort.runId);
  const roundsOf = new Map(
    [...cohorts].map(([runId, list]) => [runId, ascending(list.map(({ round }) => round))]),
  );
  const states = globalStates(store);
  const firstRounds = new Map([...roundsOf].map(([runId, rounds]) => [runId, rounds[0]!]));
  const touchedFrom = spread(firstRounds, states);
  const oldestFirst = store.runs
    .list()
    .reverse()
    .map((run) => run.id);
  return {
    pseudonym,
    runs: [...new Set([...oldestFirst, ...touchedFrom.keys()])].flatMap((runId) => {
      const from = touchedFrom.get(runId);
      if (from === undefined) return [];
      const made = states.filter((state) => state.runId === runId && state.round >= from);
      const globalAdapters = [...new Set(made.map((state) => state.sha256))];
      return [{ runId, rounds: roundsOf.get(runId) ?? [], globalAdapters }];
    }),
  };
}

interface GlobalState {
  runId: string;
  /** The round that it is the result of; -1 for the state a run starts from. */
  round: number;
  sha256: string;
}

/** Every global state that this installation knows of, by round. */
function globalStates(store: ReadOnlyStore): GlobalState[] {
  const kept = store.adapters.list({ kind: 'global' });
  const rounds = store.runs.list().flatMap((run) => store.rounds.listOfRun(run.id));
  const named = rounds.flatMap(({ runId, round, startSha256, resultSha256 }) => [
    { runId, round: round - 1, sha256: startSha256 },
    ...(resultSha256 === null ? [] : [{ runId, round, sha256: resultSha256 }]),
  ]);
  return [...kept, ...named].sort((a, b) => a.round - b.round);
}

/** From which round on each run holds something of the subject: a run that starts from a touched state is touched. */
function spread(
  firstRounds: ReadonlyMap<string, number>,
  states: readonly GlobalState[],
): Map<string, number> {
  const touchedFrom = new Map(firstRounds);
  const isTouched = ({ runId, round }: GlobalState) =>
    round >= (touchedFrom.get(runId) ?? Number.POSITIVE_INFINITY);
  for (let changed = true; changed; ) {
    changed = false;
    const hashes = new Set(states.filter(isTouched).map((state) => state.sha256));
    for (const state of states.filter(({ sha256 }) => hashes.has(sha256))) {
      if (isTouched(state)) continue;
      touchedFrom.set(state.runId, state.round);
      changed = true;
    }
  }
  return touchedFrom;
}

function ascending(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}
