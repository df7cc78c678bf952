/** Which rounds and models a subject took part in. */
import { z } from 'zod';
import { runConfigSchema } from '../config/run-config.ts';
import { AppError } from '../shared/errors.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { cohortsTouchedBySubject } from './cohort.ts';
import { consentStatus } from './consent.ts';

/**
 * What a version of a model has to do with a subject.
 * - `trained`: it came of a round whose cohort held an image of the subject.
 * - `descends`: it builds upon one of those, in the same run or in a later one.
 * - `evaluated`: it was counted on held-out images of the subject. Nothing of them is in it.
 * - `maybe-evaluated`: an older Anneal counted it and did not write down on whose images; the subject's may be among them.
 * - `after-evaluated`: it builds upon one that was, and people may have chosen that one by its figures.
 */
export const versionUses = [
  'trained',
  'descends',
  'evaluated',
  'maybe-evaluated',
  'after-evaluated',
] as const;
export type VersionUse = (typeof versionUses)[number];

/** A global state: an adapter with its head, as all sites got it. */
export const tracedVersionSchema = z.strictObject({
  /** The round whose result it is, 0-based; -1 for the one that a run starts from. */
  round: z.int(),
  /** Null: this site has not heard which it is. */
  sha256: z.string().nullable(),
  /** In the order of {@link versionUses}; at least one. */
  uses: z.array(z.enum(versionUses)),
});
export type TracedVersion = z.infer<typeof tracedVersionSchema>;

export const tracedRunSchema = z.strictObject({
  runId: z.string(),
  /** Rounds whose cohort held an image of the subject. */
  rounds: z.array(z.int()),
  /** By round. */
  versions: z.array(tracedVersionSchema),
});
export type TracedRun = z.infer<typeof tracedRunSchema>;

export interface TraceReport {
  pseudonym: string;
  /** Oldest first. */
  runs: TracedRun[];
}

/**
 * Every version of a model that the subject's images trained or evaluated, and every one that builds upon it. Errs on the
 * side of naming too many: whether the coordinator took a round's update is not asked.
 * @throws AppError SUBJECT_UNKNOWN
 */
export function traceSubject(store: ReadOnlyStore, pseudonym: string): TraceReport {
  const subject = store.subjects.byPseudonym(pseudonym);
  if (subject === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${pseudonym}".`);
  const states = globalStates(store);
  const roundsOf = trainedRounds(store, pseudonym);
  const evaluated = evaluatedStates(store, subject.id);
  const maybe = maybeEvaluated(store, subject.id);
  const firstTrained = new Map([...roundsOf].map(([runId, rounds]) => [runId, rounds[0]!]));
  const touched = spread(firstTrained, states);
  const counted = spread(firstCounted(states, new Set([...evaluated, ...maybe])), states);

  const usesOf = ({ runId, round, sha256 }: TracedState): VersionUse[] => {
    const isTrained = roundsOf.get(runId)?.includes(round) ?? false;
    const builds = round >= (touched.get(runId) ?? Number.POSITIVE_INFINITY);
    const uses = {
      trained: isTrained,
      descends: builds && !isTrained,
      evaluated: sha256 !== null && evaluated.has(sha256),
      'maybe-evaluated': sha256 !== null && maybe.has(sha256),
      'after-evaluated': false,
    };
    const found = versionUses.filter((use) => uses[use]);
    const isAfter = round >= (counted.get(runId) ?? Number.POSITIVE_INFINITY);
    return found.length === 0 && isAfter ? ['after-evaluated'] : found;
  };
  const runs = [...new Set([...oldestFirst(store), ...roundsOf.keys()])].map((runId) => ({
    runId,
    rounds: roundsOf.get(runId) ?? [],
    versions: versionsOf(runId, states, roundsOf)
      .map((state) => ({ round: state.round, sha256: state.sha256, uses: usesOf(state) }))
      .filter(({ uses }) => uses.length > 0),
  }));
  return { pseudonym, runs: runs.filter(({ versions }) => versions.length > 0) };
}

interface GlobalState {
  runId: string;
  round: number;
  sha256: string;
}
type TracedState = Omit<GlobalState, 'sha256'> & { sha256: string | null };

const oldestFirst = (store: ReadOnlyStore) =>
  store.runs
    .list()
    .reverse()
    .map((run) => run.id);

/** With a row for each round that trained on the subject, whether its result is known or not. */
function versionsOf(
  runId: string,
  states: readonly GlobalState[],
  roundsOf: ReadonlyMap<string, number[]>,
): TracedState[] {
  const own = states.filter((state) => state.runId === runId);
  const known = new Map<string, TracedState>(own.map((state) => [`${state.round} ${state.sha256}`, state]));
  const unknown = (roundsOf.get(runId) ?? []).filter((round) => own.every((state) => state.round !== round));
  const all = [...known.values(), ...unknown.map((round) => ({ runId, round, sha256: null }))];
  return all.sort((a, b) => a.round - b.round);
}

function trainedRounds(store: ReadOnlyStore, pseudonym: string): Map<string, number[]> {
  const cohorts = Map.groupBy(cohortsTouchedBySubject(store, pseudonym), (cohort) => cohort.runId);
  return new Map([...cohorts].map(([runId, list]) => [runId, ascending(list.map(({ round }) => round))]));
}

/** Every global state that this installation knows of, by round. */
function globalStates(store: ReadOnlyStore): GlobalState[] {
  const kept = store.adapters.list({ kind: 'global' });
  const named = store.runs
    .list()
    .flatMap((run) => [
      ...store.rounds
        .listOfRun(run.id)
        .flatMap(({ runId, round, startSha256, resultSha256 }) => [
          { runId, round: round - 1, sha256: startSha256 },
          ...(resultSha256 === null ? [] : [{ runId, round, sha256: resultSha256 }]),
        ]),
      ...finalState(store, run),
    ]);
  return [...kept, ...store.modelVersions.list(), ...named].sort((a, b) => a.round - b.round);
}

/** Of runs that ended before version 9: the one that was evaluated at the end stands beside the contract. */
function finalState(store: ReadOnlyStore, run: { id: string; config: unknown }): GlobalState[] {
  const sha256 = store.contracts.pinsOf(run.id)?.finalStateSha256;
  const rounds = runConfigSchema.safeParse(run.config).data?.rounds;
  return sha256 == null || rounds === undefined ? [] : [{ runId: run.id, round: rounds - 1, sha256 }];
}

function evaluatedStates(store: ReadOnlyStore, subjectId: number): Set<string> {
  return new Set(store.evaluationCohorts.bySubject(subjectId).map(({ stateSha256 }) => stateSha256));
}

/** Of versions before 9, which did not write down on whose images they counted: what may have been, by consent and time. */
function maybeEvaluated(store: ReadOnlyStore, subjectId: number): Set<string> {
  const heldOut = store.images.list({ subjectId, split: 'test' });
  const events = store.consentEvents.ofSubject(subjectId);
  const states = new Set<string>();
  if (heldOut.length === 0) return states;
  for (const run of store.runs.list()) {
    const config = runConfigSchema.safeParse(run.config).data;
    const recorded = new Set(store.evaluationCohorts.ofRun(run.id).map(({ stateSha256 }) => stateSha256));
    for (const { stateSha256, createdAt, total } of store.evaluations.ofRun(run.id)) {
      if (total === 0 || recorded.has(stateSha256)) continue;
      const wasThere = heldOut.some(
        ({ importedAt, label }) =>
          importedAt <= createdAt && (config === undefined || config.classes.includes(label)),
      );
      const known = events.filter(({ recordedAt }) => recordedAt <= createdAt);
      // Settings that cannot be read any more say no purpose: any will do.
      const purposes = config === undefined ? known.map(({ purpose }) => purpose) : [config.purpose];
      const agreed = purposes.some((purpose) => consentStatus(known, purpose, createdAt) === 'active');
      if (wasThere && agreed) states.add(stateSha256);
    }
  }
  return states;
}

/** The first round of each run whose result is among these; -1 where the run starts from one. */
function firstCounted(states: readonly GlobalState[], hashes: ReadonlySet<string>): Map<string, number> {
  const first = new Map<string, number>();
  for (const { runId, round, sha256 } of states)
    if (hashes.has(sha256)) first.set(runId, Math.min(round, first.get(runId) ?? round));
  return first;
}

/** From which round on each run builds upon one of these: a run that starts from such a state does from its start. */
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
