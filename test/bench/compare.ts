/** Whether two sides compute the same: a benchmark of different mathematics is worthless. */
import type { FloatTensor } from '../../core/shared/tensor.ts';

export interface Comparison {
  /** |ours - theirs| / |theirs| of the loss. */
  lossDifference: number;
  /** Largest ||ours - theirs|| / ||theirs|| over the gradients, and whose it is. */
  gradientDifference: number;
  worst: string;
  gradients: number;
}

/** @throws Error when the two do not hold gradients of the same parameters and shapes */
export function compareSides(
  ours: { loss: number; gradients: ReadonlyMap<string, FloatTensor> },
  theirs: { loss: number; gradients: ReadonlyMap<string, FloatTensor> },
): Comparison {
  let gradientDifference = 0;
  let worst = '';
  for (const [name, expected] of theirs.gradients) {
    const actual = ours.gradients.get(name);
    if (actual?.data.length !== expected.data.length) throw new Error(`no gradient of ${name} on both sides`);
    const difference = relativeDistance(actual.data, expected.data);
    // Written so that a NaN counts as the worst.
    if (difference <= gradientDifference) continue;
    gradientDifference = difference;
    worst = name;
  }
  if (ours.gradients.size !== theirs.gradients.size) throw new Error('the two sides train other parameters');
  const lossDifference = Math.abs(ours.loss - theirs.loss) / Math.abs(theirs.loss);
  return { lossDifference, gradientDifference, worst, gradients: theirs.gradients.size };
}

/** ||a - b|| / ||b||; 0 when both are zero. */
export function relativeDistance(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / size);
}
