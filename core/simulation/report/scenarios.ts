/** A simulation's runs, sorted for comparison: what was compared with what, and each method's course over its seeds. */
import { plural } from '../../shared/text.ts';
import type { FailedRun, FinishedRun, Partition, RoundRecord, RunLine } from '../record.ts';
import { meanInterval } from '../statistics.ts';

/** Mean over seeds with its 95 % confidence interval; without an interval when there is only one value. */
export interface Estimate {
  readonly mean: number;
  readonly lower: number;
  readonly upper: number;
  /** Values behind it. */
  readonly count: number;
}

/** A measure by round: null where no run of the method has it. */
export type Course = readonly (Estimate | null)[];

/** The runs of one label in one scenario: they differ in nothing but the seed. */
export interface Method {
  readonly label: string;
  /** By seed. */
  readonly runs: readonly FinishedRun[];
  readonly accuracy: Course;
  /** Bytes sent up to and with a round, by all sites and to all sites: means over the seeds. */
  readonly sentBytes: readonly number[];
  /** Mean rank of the adapted layers in a round's result; null for methods without layers. */
  readonly rank: Course;
  readonly energyKept: Course;
  readonly drift: Course;
  readonly epsilon: Course;
}

/** Runs that are comparable: the same data, base model, sites and way of spreading the images. */
export interface Scenario {
  readonly title: string;
  readonly classes: readonly string[];
  /** In the order in which the experiment names them. */
  readonly methods: readonly Method[];
  readonly failed: readonly FailedRun[];
}

/**
 * Sorts runs into scenarios and methods. Runs of one label that differ in more than the seed (the same name in two
 * experiments) are in different scenarios, because those are told apart by experiment, too.
 */
export function scenariosOf(runs: readonly RunLine[]): Scenario[] {
  const experiments = new Set(runs.map((run) => run.experiment));
  const bases = new Set(runs.map((run) => run.config.baseId));
  const data = new Set(runs.map((run) => run.dataSha256));
  const groups = groupBy(runs, (run) =>
    JSON.stringify([
      run.experiment,
      run.dataSha256,
      run.partition,
      run.sites,
      run.config.baseId,
      run.config.classes,
      run.evaluateOn,
    ]),
  );
  return groups.map((group) => {
    const [first] = group as [RunLine];
    const finished = group.filter((run): run is FinishedRun => run.status === 'finished');
    const title = [
      ...(experiments.size > 1 ? [first.experiment] : []),
      describePartition(first.partition),
      plural(first.sites, 'site'),
      ...(bases.size > 1 ? [first.config.baseId] : []),
      ...(first.evaluateOn === 'validation' ? ['validation images'] : []),
      ...(data.size > 1 ? [`images ${first.dataSha256.slice(0, 8)}`] : []),
    ].join(', ');
    return {
      title,
      classes: first.config.classes,
      methods: groupBy(finished, (run) => run.label).map(methodOf),
      failed: group.filter((run): run is FailedRun => run.status === 'failed'),
    };
  });
}

function describePartition(partition: Partition): string {
  switch (partition.kind) {
    case 'iid':
      return 'IID';
    case 'dirichlet':
      return `Dirichlet α = ${partition.alpha}`;
    case 'shards':
      return `${plural(partition.perSite, 'shard')} per site`;
    case 'column':
      return `by column "${partition.column}"`;
  }
}

function methodOf(group: readonly FinishedRun[]): Method {
  const runs = group.toSorted((x, y) => x.seed - y.seed);
  const rounds = Math.max(...runs.map((run) => run.rounds.length));
  const course = (read: (round: RoundRecord) => number | null): Course =>
    Array.from({ length: rounds }, (_, index) =>
      estimate(runs.map((run) => (run.rounds[index] === undefined ? null : read(run.rounds[index])))),
    );
  const sent = runs.map(cumulativeBytes);
  return {
    label: runs[0]!.label,
    runs,
    accuracy: course((round) => round.accuracy),
    sentBytes: Array.from({ length: rounds }, (_, index) =>
      meanOf(sent.map((bytes) => bytes[index] ?? bytes.at(-1)!)),
    ),
    rank: course(meanRank),
    energyKept: course((round) => round.energyKept),
    drift: course((round) => round.driftShare),
    epsilon: course((round) => round.epsilon),
  };
}

/** Bytes sent both ways up to and with each round of a run. */
export function cumulativeBytes(run: FinishedRun): number[] {
  let sum = 0;
  return run.rounds.map((round) => {
    sum += round.bytesUp + round.bytesDown;
    return sum;
  });
}

function meanRank({ layerRanks, rankSum, rank }: RoundRecord): number | null {
  const layers = layerRanks === null ? 0 : Object.keys(layerRanks).length;
  if (rankSum !== null && layers > 0) return rankSum / layers;
  return rank > 0 ? rank : null;
}

/** Mean and interval of the values that are there; null when none is. */
export function estimate(values: readonly (number | null)[]): Estimate | null {
  const known = values.filter((value): value is number => value !== null && Number.isFinite(value));
  if (known.length === 0) return null;
  const { mean, lower, upper } = meanInterval(known);
  return { mean, lower, upper, count: known.length };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Groups in the order in which their first member comes. */
function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  return [...Map.groupBy(items, keyOf).values()];
}
