/**
 * Filters that make what belongs to a symmetric matrix's largest eigenvalues stand out from a block of vectors
 * (Zhou and Saad 2007, SIAM J. Matrix Anal. Appl. 29, 954–971), in float64 or float32.
 */
import { type DenseMatrix, releaseMatrix, transposed } from './matrix-products.ts';

/** A block whose rows are the best guesses of eigenvectors that its span holds, from the largest eigenvalue down. */
export interface Ritz {
  readonly values: readonly number[];
  readonly block: DenseMatrix;
  /** The block times the matrix. */
  readonly image: DenseMatrix;
}

/** By how much a filter may favour the first direction over the last wanted one before rounding blurs the latter. */
const maxContrast = { float64: 1e8, float32: 1e4 };

/**
 * The degree that should bring all residuals down to what they may be.
 * @param shortfall of the wanted rows: residual over what it may be
 */
export function filterDegree(
  values: readonly number[],
  shortfall: readonly number[],
  { most, isRough }: { most: number; isRough: boolean },
): number {
  let needed = 2;
  shortfall.forEach((ratio, k) => {
    if (ratio > 1) needed = Math.max(needed, Math.acosh(4 * ratio) / growthRate(values[k]!, values));
  });
  const spread = growthRate(values[0]!, values) - growthRate(values[shortfall.length - 1]!, values);
  const contrast = maxContrast[isRough ? 'float32' : 'float64'];
  return Math.max(2, Math.floor(Math.min(needed + 1, most, Math.log(contrast) / spread)));
}

/** Where a Chebyshev polynomial of [0, last value] is looked at for this value: beyond 1 it grows as cosh. */
function growthRate(value: number, values: readonly number[]): number {
  return Math.acosh(Math.max(1, (2 * value) / filterEnd(values) - 1));
}

function filterEnd(values: readonly number[]): number {
  return Math.max(values.at(-1)!, 1e-14 * values[0]!);
}

/** One precision's matrix: both functions keep to it. */
export interface FilterMatrix<T> {
  narrow(values: Float64Array): T;
  /** The matrix times a new x whose columns are the block's vectors. */
  times(x: { rows: number; cols: number; data: T }): Promise<{ readonly data: T }>;
}

/** Rows: the block times a Chebyshev polynomial of the matrix, scaled so that the first row keeps its size. */
export async function chebyshevFilter<T extends Float32Array | Float64Array>(
  { values, block, image }: Ritz,
  degree: number,
  { narrow, times }: FilterMatrix<T>,
): Promise<DenseMatrix> {
  const size = { rows: block.cols, cols: block.rows };
  const half = filterEnd(values) / 2;
  const first = half / (values[0]! - half);
  let scale = first;
  let before = narrow(transposed(block).data);
  let now = narrow(transposed(image).data);
  for (let i = 0; i < now.length; i++) now[i] = ((now[i]! - half * before[i]!) * scale) / half;
  for (let step = 2; step <= degree; step++) {
    const { data } = await times({ ...size, data: now });
    const next = 1 / (2 / first - scale);
    combine(data, now, before, { ofNow: 2 * next, ofImage: (2 * next) / half, ofBefore: scale * next });
    releaseMatrix({ data: before });
    [before, now, scale] = [now, data, next];
  }
  return transposed({ ...size, data: new Float64Array(now) });
}

/** image ← the polynomial of the next degree. */
function combine(
  image: Float32Array | Float64Array,
  now: Float32Array | Float64Array,
  before: Float32Array | Float64Array,
  { ofNow, ofImage, ofBefore }: { ofNow: number; ofImage: number; ofBefore: number },
): void {
  for (let i = 0; i < image.length; i++)
    image[i] = ofImage * image[i]! - ofNow * now[i]! - ofBefore * before[i]!;
}
