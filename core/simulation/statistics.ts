/** What a few seeds say about a method: means, confidence intervals, paired comparisons. */
import { AppError } from '../shared/errors.ts';
import { createRandom } from '../shared/random.ts';

export interface MeanInterval {
  mean: number;
  /** Ends of the confidence interval of the mean; both are the mean itself when there is one value only. */
  lower: number;
  upper: number;
  /** Of the sample, with n − 1; 0 for one value. */
  standardDeviation: number;
  count: number;
}

/**
 * Mean with Student's t interval, which assumes that seeds scatter normally.
 * @param confidence between 0 and 1
 * @throws AppError CONFIG_INVALID without values, or with a value that is no finite number
 */
export function meanInterval(values: readonly number[], confidence = 0.95): MeanInterval {
  if (values.length === 0 || !values.every(Number.isFinite)) {
    throw new AppError('CONFIG_INVALID', 'A mean needs at least one value, and finite ones only.');
  }
  const count = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  if (count === 1) return { mean, lower: mean, upper: mean, standardDeviation: 0, count };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const standardDeviation = Math.sqrt(squares / (count - 1));
  const half = (studentQuantile(0.5 + confidence / 2, count - 1) * standardDeviation) / Math.sqrt(count);
  return { mean, lower: mean - half, upper: mean + half, standardDeviation, count };
}

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

/**
 * The t below which Student's distribution has this share of its weight.
 * @param share from 0.5 to below 1
 * @param freedom degrees of freedom, a whole number from 1
 */
export function studentQuantile(share: number, freedom: number): number {
  const tail = 2 * (1 - share);
  let lower = 0;
  let upper = 1;
  while (studentTail(upper, freedom) > tail) upper *= 2;
  // Halved until the numbers between are used up.
  for (let middle = 0; ; ) {
    const next = (lower + upper) / 2;
    if (next === middle || next <= lower || next >= upper) return next;
    middle = next;
    if (studentTail(middle, freedom) > tail) lower = middle;
    else upper = middle;
  }
}

/**
 * P(|T| > t): one less the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4.
 * @param t from 0
 */
function studentTail(t: number, freedom: number): number {
  const angle = Math.atan2(Math.sqrt(freedom), t);
  // Of the angle atan(t / √ν); its complement is exact where t is large.
  const cosine = Math.sin(angle);
  const sine = Math.cos(angle);
  const isOdd = freedom % 2 === 1;
  let term = isOdd ? cosine : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let i = isOdd ? 3 : 2; i < freedom; i += 2) {
    term *= (cosine * cosine * (i - 1)) / i;
    sum += term;
  }
  // Far out, rounding may leave less than nothing.
  return Math.max(0, isOdd ? (2 / Math.PI) * (angle - sine * sum) : 1 - sine * sum);
}
