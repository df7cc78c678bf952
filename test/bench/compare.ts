/** Whether two sides compute the same: a benchmark of different mathematics is worthless. */
import type { FloatTensor } from '../../core/shared/tensor.ts';

export interface Comparison {
  /** |ours - theirs| / |theirs| of the loss. */
  lossDifference: number;
  /** ||ours - theirs|| / ||theirs|| of the whole gradient, all parameters as one vector. */
  gradientDifference: number;
  /** Largest such figure of one parameter, and whose it is. */
  worstDifference: number;
  worst: string;
  parameters: number;
}

export interface ComparedSide {
  loss: number;
  gradients: ReadonlyMap<string, FloatTensor>;
}

/** @throws Error when the two do not hold gradients of the same parameters and sizes */
export function compareSides(ours: ComparedSide, theirs: ComparedSide): Comparison {
  if (ours.gradients.size !== theirs.gradients.size) throw new Error('the two sides train other parameters');
  const total = { difference: 0, size: 0 };
  let worst = { name: '', difference: 0 };
  for (const [name, expected] of theirs.gradients) {
    const actual = ours.gradients.get(name);
    if (actual?.data.length !== expected.data.length) throw new Error(`no gradient of ${name} on both sides`);
    const squares = squaredDistance(actual.data, expected.data);
    total.difference += squares.difference;
    total.size += squares.size;
    const difference = ratio(squares);
    // A NaN is the worst of all, and stays.
    const isWorse = Number.isNaN(difference) || difference > worst.difference;
    if (isWorse && !Number.isNaN(worst.difference)) worst = { name, difference };
  }
  return {
    lossDifference: Math.abs(ours.loss - theirs.loss) / Math.abs(theirs.loss),
    gradientDifference: ratio(total),
    worstDifference: worst.difference,
    worst: worst.name,
    parameters: theirs.gradients.size,
  };
}

interface Squares {
  difference: number;
  size: number;
}

function squaredDistance(a: Float32Array, b: Float32Array): Squares {
  const squares = { difference: 0, size: 0 };
  for (let i = 0; i < b.length; i++) {
    squares.difference += (a[i]! - b[i]!) ** 2;
    squares.size += b[i]! ** 2;
  }
  return squares;
}

const ratio = ({ difference, size }: Squares) => (difference === 0 ? 0 : Math.sqrt(difference / size));
