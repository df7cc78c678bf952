/** The rows of the paper's table from the simulation's runs. */
import type { FinishedRun } from '../../../core/simulation/record.ts';
import { estimate, type Method, type Scenario } from '../../../core/simulation/report/scenarios.ts';

export interface ResultRow {
  readonly dataset: string;
  readonly strategy: string;
  readonly seeds: readonly number[];
  /** Of the last global state on the test images, 0…1. */
  readonly accuracyMean: number;
  /** 95 % interval of the mean over seeds (Student's t); both ends are the mean with one seed. */
  readonly accuracyInterval: readonly [number, number];
  /** By seed. */
  readonly accuracies: readonly number[];
  /** Mean over seeds by round. */
  readonly accuracyByRound: readonly (number | null)[];
  readonly macroF1Mean: number | null;
  readonly calibrationErrorMean: number | null;
  /** First round (1-based) in which the mean accuracy has reached 95 % of the best strategy's last one; null: never. */
  readonly roundsTo95: number | null;
  /** As counted by the coordinators, all sites both ways: means over seeds. */
  readonly parametersSent: number;
  readonly bytesSent: number;
  /** Until the round of `roundsTo95`. */
  readonly bytesTo95: number | null;
  /** Mean share of drift over all rounds, and in the first rounds that sa-fedlora calls initiating. */
  readonly driftShareMean: number | null;
  readonly driftShareInitiating: number | null;
  readonly driftSpreadInitiating: number | null;
  /** Lowest share of energy that a round kept, mean over seeds; null without exact aggregation. */
  readonly lowestEnergyKept: number | null;
  readonly computeSeconds: number;
}

/** Share of the best mean accuracy that "rounds to 95 %" asks for. */
const targetShare = 0.95;

/** The accuracy to reach: 95 % of the best mean final accuracy. */
export function targetOf({ methods }: Scenario): number {
  return targetShare * Math.max(...methods.map(({ runs }) => meanOf(runs.map(finalAccuracy))));
}

/**
 * @param scenario all finished runs of one data set
 * @param initiatingRounds rounds whose drift is averaged apart
 */
export function rowsOf(dataset: string, scenario: Scenario, initiatingRounds: number): ResultRow[] {
  const target = targetOf(scenario);
  return scenario.methods.map((method) => rowOf(dataset, method, target, initiatingRounds));
}

function rowOf(dataset: string, method: Method, target: number, initiatingRounds: number): ResultRow {
  const { label, runs, accuracy, sentBytes } = method;
  const accuracies = runs.map(finalAccuracy);
  const final = estimate(accuracies)!;
  const accuracyByRound = accuracy.map((value) => value?.mean ?? null);
  const hit = accuracyByRound.findIndex((value) => value !== null && value >= target);
  const metric = (read: (run: FinishedRun) => number | null | undefined) =>
    estimate(runs.map((run) => read(run) ?? null))?.mean ?? null;
  const ofRounds = (read: (round: FinishedRun['rounds'][number]) => number | null, count?: number) =>
    estimate(runs.flatMap((run) => run.rounds.slice(0, count).map(read)))?.mean ?? null;
  return {
    dataset,
    strategy: label,
    seeds: runs.map(({ seed }) => seed),
    accuracyMean: final.mean,
    accuracyInterval: [final.lower, final.upper],
    accuracies,
    accuracyByRound,
    macroF1Mean: metric((run) => run.final.metrics?.macroF1),
    calibrationErrorMean: metric((run) => run.final.metrics?.calibrationError),
    roundsTo95: hit < 0 ? null : hit + 1,
    parametersSent: Math.round(meanOf(runs.map(({ totals }) => totals.parametersSent))),
    bytesSent: Math.round(meanOf(runs.map(({ totals }) => totals.bytesSent))),
    bytesTo95: hit < 0 ? null : Math.round(sentBytes[hit]!),
    driftShareMean: ofRounds(({ driftShare }) => driftShare),
    driftShareInitiating: ofRounds(({ driftShare }) => driftShare, initiatingRounds),
    driftSpreadInitiating: ofRounds(({ driftSpread }) => driftSpread, initiatingRounds),
    lowestEnergyKept: metric((run) => lowest(run.rounds.map(({ energyKept }) => energyKept))),
    computeSeconds: meanOf(runs.map(({ totals }) => totals.computeMs / 1000)),
  };
}

/** A run whose last round has no accuracy counts as one that knows nothing. */
const finalAccuracy = ({ final }: FinishedRun): number => final.accuracy ?? 0;

const meanOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

function lowest(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.min(...known);
}
