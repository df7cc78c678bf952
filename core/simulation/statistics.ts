/** What a few seeds say about a method: means and confidence intervals. */
import { AppError } from '../shared/errors.ts';

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
export function studentTail(t: number, freedom: number): number {
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
