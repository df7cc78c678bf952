/** One row of the report's tables for each method of a scenario. */
import { belowFloor } from '../../evaluation/floors.ts';
import { type FinishedRun, floorsOfRun } from '../record.ts';
import { cumulativeBytes, type Estimate, estimate, type Method, type Scenario } from './scenarios.ts';

export interface MethodFigures {
  readonly label: string;
  readonly seeds: number;
  /** Of the last global state. */
  readonly accuracy: Estimate | null;
  /** Floors: the untrained network's nearest neighbour, and class means before training. */
  readonly untrained: Estimate | null;
  readonly classMeans: Estimate | null;
  /** For each run that ends below a floor of its own, a sentence. */
  readonly below: readonly string[];
  readonly top5: Estimate | null;
  readonly macroF1: Estimate | null;
  readonly macroAuc: Estimate | null;
  readonly calibrationError: Estimate | null;
  /** First round (1-based) with the target accuracy and bytes sent until its end, over the runs that reach it. */
  readonly roundsToTarget: Estimate | null;
  readonly bytesToTarget: Estimate | null;
  /** Runs that reach the target. */
  readonly reached: number;
  /** Means over the seeds. */
  readonly parametersSent: number;
  readonly bytesSent: number;
  /** 1 − sent / what `fedavg-full` (or the fixed rank r_max) sends for the same rounds and sites, in parameters. */
  readonly savedAgainstFull: number;
  readonly savedAgainstFixedRank: number;
  readonly epsilon: Estimate | null;
  readonly recall: readonly (Estimate | null)[];
}

export interface ScenarioFigures {
  /** Accuracy that "rounds to target" asks for; null when no run has an accuracy. */
  readonly target: number | null;
  readonly methods: readonly MethodFigures[];
}

/** Share of the best method's final accuracy that is the target when none is given. */
const targetShare = 0.95;

/**
 * The figures of all methods of a scenario.
 * @param target accuracy 0…1; 95 % of the highest mean final accuracy without it
 */
export function figuresOf(scenario: Scenario, target?: number): ScenarioFigures {
  const finals = scenario.methods.flatMap(({ runs }) => estimate(runs.map(finalAccuracy))?.mean ?? []);
  const aim = target ?? (finals.length === 0 ? null : targetShare * Math.max(...finals));
  return { target: aim, methods: scenario.methods.map((method) => methodFigures(method, scenario, aim)) };
}

function methodFigures({ label, runs }: Method, { classes }: Scenario, target: number | null): MethodFigures {
  const of = (read: (run: FinishedRun) => number | null | undefined) =>
    estimate(runs.map((run) => read(run) ?? null));
  const mean = (read: (run: FinishedRun) => number) => of(read)!.mean;
  const hits = runs.map((run) => roundOfTarget(run, target));
  return {
    label,
    seeds: runs.length,
    accuracy: of(finalAccuracy),
    untrained: of((run) => floorsOfRun(run).untrained),
    classMeans: of((run) => floorsOfRun(run).classMeans),
    below: runs.flatMap((run) => {
      const said = belowFloor(floorsOfRun(run));
      return said === null ? [] : [`${label}, seed ${run.seed}: ${said}`];
    }),
    top5: of((run) => run.final.metrics?.top5),
    macroF1: of((run) => run.final.metrics?.macroF1),
    macroAuc: of((run) => run.final.metrics?.macroAuc),
    calibrationError: of((run) => run.final.metrics?.calibrationError),
    roundsToTarget: estimate(hits.map((round) => (round === null ? null : round + 1))),
    bytesToTarget: estimate(
      runs.map((run, index) => (hits[index] === null ? null : cumulativeBytes(run)[hits[index]!]!)),
    ),
    reached: hits.filter((round) => round !== null).length,
    parametersSent: mean(({ totals }) => totals.parametersSent),
    bytesSent: mean(({ totals }) => totals.bytesSent),
    savedAgainstFull: mean(({ totals }) => 1 - totals.parametersSent / totals.fedavgFullParameters),
    savedAgainstFixedRank: mean(({ totals }) => 1 - totals.parametersSent / totals.fixedRankParameters),
    epsilon: of((run) => run.rounds.at(-1)?.epsilon),
    recall: classes.map((_, index) => of((run) => run.final.metrics?.perClassRecall[index])),
  };
}

function finalAccuracy({ final }: FinishedRun): number | null {
  return final.metrics?.accuracy ?? final.accuracy;
}

/** 0-based, or null when no round reaches the target. */
function roundOfTarget({ rounds }: FinishedRun, target: number | null): number | null {
  if (target === null) return null;
  const index = rounds.findIndex(({ accuracy }) => accuracy !== null && accuracy >= target);
  return index < 0 ? null : index;
}
