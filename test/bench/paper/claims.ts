/** What the table should show, and whether it does. */
import { pairedDifference } from './paired.ts';
import { saFedLora, saFedLoraFixedA, saFedLoraWithoutPull } from './plan-of-runs.ts';
import type { ResultRow } from './table-rows.ts';

export interface Claim {
  readonly dataset: string;
  /** `-fixed-a`: the same claim for sa-fedlora with A fixed, which is no part of the paper. */
  readonly id: 'full' | 'full-fixed-a' | 'fixed-rank' | 'fixed-rank-fixed-a' | 'exact' | 'initiating';
  readonly statement: string;
  /** By the means. Whether the difference is more than chance is for the intervals to say. */
  readonly holds: boolean;
  /** Figures behind it, in words. */
  readonly evidence: string;
  /** Difference of accuracy with its 95 % interval over seeds, paired by seed and partition. */
  readonly accuracyDifference: number;
  readonly accuracyDifferenceInterval: readonly [number, number];
  /** 1 − sent / sent by the other; null where traffic is no part of the claim. */
  readonly saved: number | null;
}

/** The paper's headline (arXiv 2405.09394). */
const savedAgainstFull = 0.9362;
const savedAgainstFixedRank = 0.3;
const fixedRank = ['fedavg-lora', 'ffa-lora', 'fedsa-lora', 'flora-stack', 'flexlora', 'hetlora'];

/** Claims of one data set; those whose rows are missing are left out. */
export function claimsOf(rows: readonly ResultRow[]): Claim[] {
  const of = (name: string) => rows.find(({ strategy }) => strategy === name);
  const [ours, fixedA] = [of(saFedLora), of(saFedLoraFixedA)];
  const fixed = rows
    .filter(({ strategy }) => fixedRank.includes(strategy))
    .reduce<ResultRow | undefined>(
      (best, row) => (best === undefined || row.accuracyMean > best.accuracyMean ? row : best),
      undefined,
    );
  const pairs = [
    [ours, of('fedavg-full'), againstFull],
    [fixedA, of('fedavg-full'), againstFull],
    [ours, fixed, againstFixedRank],
    [fixedA, fixed, againstFixedRank],
    [of('flexlora'), of('fedavg-lora'), exactAgainstFactors],
    [ours, of(saFedLoraWithoutPull), withAgainstWithoutPull],
  ] as const;
  return pairs.flatMap(([first, second, claim]) =>
    first === undefined || second === undefined ? [] : [claim(first, second)],
  );
}

function againstFull(ours: ResultRow, full: ResultRow): Claim {
  const saved = 1 - ours.parametersSent / full.parametersSent;
  return {
    ...compared(ours, full),
    id: ours.strategy === saFedLoraFixedA ? 'full-fixed-a' : 'full',
    statement: `${ours.strategy} is at least as accurate as fedavg-full with at least 93.62 % fewer parameters sent`,
    holds: ours.accuracyMean >= full.accuracyMean && saved >= savedAgainstFull,
    evidence: `${percent(ours.accuracyMean)} against ${percent(full.accuracyMean)}, ${percent(saved, 2)} fewer parameters`,
    saved,
  };
}

function againstFixedRank(ours: ResultRow, best: ResultRow): Claim {
  const saved = 1 - ours.bytesSent / best.bytesSent;
  return {
    ...compared(ours, best),
    id: ours.strategy === saFedLoraFixedA ? 'fixed-rank-fixed-a' : 'fixed-rank',
    statement: `${ours.strategy} is at least as accurate as the best fixed-rank LoRA with at least 30 % fewer bytes sent`,
    holds: ours.accuracyMean >= best.accuracyMean && saved >= savedAgainstFixedRank,
    evidence: `${percent(ours.accuracyMean)} against ${percent(best.accuracyMean)} (${best.strategy}), ${saved >= 0 ? `${percent(saved)} fewer` : `${percent(-saved)} more`} bytes`,
    saved,
  };
}

function exactAgainstFactors(exact: ResultRow, factors: ResultRow): Claim {
  return {
    ...compared(exact, factors),
    id: 'exact',
    statement: 'exact aggregation (flexlora) is ahead of averaged factors (fedavg-lora)',
    holds: exact.accuracyMean > factors.accuracyMean,
    evidence: `${percent(exact.accuracyMean)} against ${percent(factors.accuracyMean)}; rounds to target ${rounds(exact)} and ${rounds(factors)}`,
    saved: null,
  };
}

function withAgainstWithoutPull(pulled: ResultRow, free: ResultRow): Claim {
  const spreads = [pulled, free].map((row) => row.driftSpreadInitiating ?? Number.NaN);
  const reached = [pulled, free].map((row) => row.roundsTo95 ?? Number.POSITIVE_INFINITY);
  const number = (value: number) => value.toPrecision(3);
  return {
    ...compared(pulled, free),
    id: 'initiating',
    statement: "the initiating stage's pull lowers drift and rounds to target",
    holds: spreads[0]! < spreads[1]! && reached[0]! < reached[1]!,
    evidence: `drift in that stage ${number(spreads[0]!)} with and ${number(spreads[1]!)} without (share ${percent(pulled.driftShareInitiating ?? 0)} and ${percent(free.driftShareInitiating ?? 0)}); rounds to target ${rounds(pulled)} and ${rounds(free)}`,
    saved: null,
  };
}

function compared(first: ResultRow, second: ResultRow) {
  // A seed whose run failed with one of the two has no pair.
  const seeds = first.seeds.filter((seed) => second.seeds.includes(seed));
  const of = ({ seeds: own, accuracies }: ResultRow) => seeds.map((seed) => accuracies[own.indexOf(seed)]!);
  const { mean, lower, upper } = pairedDifference(of(first), of(second));
  return {
    dataset: first.dataset,
    accuracyDifference: mean,
    accuracyDifferenceInterval: [lower, upper] as const,
  };
}

const rounds = ({ roundsTo95 }: ResultRow) => (roundsTo95 === null ? 'never' : String(roundsTo95));
const percent = (share: number, digits = 1) => `${(100 * share).toFixed(digits)} %`;
