/** Paired comparisons of two methods over the same seeds and partitions. */
import { AppError } from '../../../core/shared/errors.ts';
import { createRandom } from '../../../core/shared/random.ts';
import { type MeanInterval, meanInterval, studentTail } from '../../../core/simulation/statistics.ts';

export interface PairedComparison extends MeanInterval {
  /** Probability of differences at least this far from 0 if there were none; two-sided. Null with one pair. */
  pValue: number | null;
}

/**
 * Student's paired t test of `first − second`: the same seeds and partitions with either method.
 * @throws AppError CONFIG_INVALID when the pairs do not match up
 */
export function pairedDifference(
  first: readonly number[],
  second: readonly number[],
  confidence = 0.95,
): PairedComparison {
  const differences = differencesOf(first, second);
  const interval = meanInterval(differences, confidence);
  const { mean, standardDeviation, count } = interval;
  if (count === 1) return { ...interval, pValue: null };
  const t = mean / (standardDeviation / Math.sqrt(count));
  // Differences that are all the same: 0 / 0 when they are all zero.
  const pValue = Number.isNaN(t) ? 1 : studentTail(Math.abs(t), count - 1);
  return { ...interval, pValue };
}

export interface BootstrapInterval {
  mean: number;
  lower: number;
  upper: number;
}

/**
 * Percentile bootstrap of the mean of `first − second` over pairs drawn again; assumes nothing of their distribution,
 * and is too narrow for a handful of pairs.
 * @throws AppError CONFIG_INVALID when the pairs do not match up
 */
export function pairedBootstrap(
  first: readonly number[],
  second: readonly number[],
  { seed, resamples = 10_000, confidence = 0.95 }: { seed: number; resamples?: number; confidence?: number },
): BootstrapInterval {
  const differences = differencesOf(first, second);
  const { mean } = meanInterval(differences);
  const random = createRandom(seed);
  const means = Float64Array.from({ length: resamples }, () => {
    let sum = 0;
    for (let i = 0; i < differences.length; i++) sum += differences[random.integer(differences.length)]!;
    return sum / differences.length;
  }).sort();
  const at = (share: number) => means[Math.round(share * (resamples - 1))]!;
  return { mean, lower: at((1 - confidence) / 2), upper: at((1 + confidence) / 2) };
}

function differencesOf(first: readonly number[], second: readonly number[]): number[] {
  if (first.length !== second.length) {
    throw new AppError(
      'CONFIG_INVALID',
      `A paired comparison needs pairs; there are ${first.length} and ${second.length} values.`,
    );
  }
  return first.map((value, index) => value - second[index]!);
}
