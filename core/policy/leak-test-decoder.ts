/**
 * The attack of the leak test: a linear decoder from embeddings to images, fitted by ridge regression, and how good its
 * images are. It is solved in its dual form, in the size of the number of images, so that wide embeddings stay cheap.
 */
import { ssim } from '@blazediff/ssim';
import { CholeskyDecomposition, Matrix } from 'ml-matrix';
import type { DenseMatrix, MatrixProducts } from '../linalg/matrix-products.ts';

/** Embeddings and images of the same faces, row after row. */
export interface FacePairs {
  readonly count: number;
  /** count × embedding size. */
  readonly embeddings: Float32Array;
  /** count × pixels, grey levels 0…255. */
  readonly images: Float64Array;
}

/** The first faces fit the decoder, the next ones choose its ridge, the rest are held out. */
export interface FaceSplit {
  readonly fitted: number;
  readonly tuning: number;
}

export interface Rebuilt {
  /** Of the held-out faces, row after row. */
  readonly images: Float64Array;
  /** Of the fitted faces. */
  readonly meanFace: Float64Array;
}

/** Ridges that are tried, as shares of a fitted embedding's mean squared length. */
const ridges = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10];
/** Columns of the embeddings that are multiplied at once: 16 MB for 512 faces. */
const columnsAtOnce = 4_096;

export async function rebuildHeldOut(
  pairs: FacePairs,
  { fitted, tuning }: FaceSplit,
  products: MatrixProducts,
): Promise<Rebuilt> {
  const { count, images } = pairs;
  const pixels = images.length / count;
  const meanFace = meanOfRows(images, fitted, pixels);
  const deviations = Matrix.from1DArray(
    count,
    pixels,
    images.map((value, at) => value - meanFace[at % pixels]!),
  );
  const kernel = await innerProducts(pairs, fitted, products);
  const rows = (from: number, to: number) => kernel.subMatrix(from, to - 1, 0, fitted - 1);
  const inner = rows(0, fitted);
  const others = rows(fitted, count).transpose();
  const known = deviations.subMatrix(0, fitted - 1, 0, pixels - 1);
  const tuned = deviations.subMatrix(fitted, fitted + tuning - 1, 0, pixels - 1);
  const meanSquare = inner.trace() / fitted;
  let best = Matrix.zeros(count - fitted, pixels);
  let leastError = squaredDistance(best, tuned);
  for (const ridge of meanSquare > 0 ? ridges : []) {
    const damped = Matrix.add(inner, Matrix.eye(fitted).mul(ridge * meanSquare));
    const decomposition = new CholeskyDecomposition(damped);
    if (!decomposition.isPositiveDefinite()) continue;
    const guess = decomposition.solve(others).transpose().mmul(known);
    const error = squaredDistance(guess, tuned);
    if (error < leastError) [best, leastError] = [guess, error];
  }
  const heldOut = best.subMatrix(tuning, count - fitted - 1, 0, pixels - 1).to1DArray();
  return { images: Float64Array.from(heldOut, (value, at) => value + meanFace[at % pixels]!), meanFace };
}

/**
 * Of all pairs of embeddings, after each of their numbers was given mean 0 and deviation 1 over the fitted faces: a
 * network cannot hide the image in numbers that are small beside the others.
 */
async function innerProducts(
  { count, embeddings }: FacePairs,
  fitted: number,
  products: MatrixProducts,
): Promise<Matrix> {
  const width = embeddings.length / count;
  const sum = Matrix.zeros(count, count);
  for (let from = 0; from < width; from += columnsAtOnce) {
    const part = standardised(embeddings, {
      count,
      fitted,
      width,
      from,
      to: Math.min(width, from + columnsAtOnce),
    });
    const { data } = await products.multiply(part, part, { transposeY: true });
    sum.add(Matrix.from1DArray(count, count, data));
  }
  return sum;
}

interface Columns {
  readonly count: number;
  readonly fitted: number;
  readonly width: number;
  readonly from: number;
  readonly to: number;
}

function standardised(embeddings: Float32Array, { count, fitted, width, from, to }: Columns): DenseMatrix {
  const cols = to - from;
  const data = new Float64Array(count * cols);
  for (let column = 0; column < cols; column++) {
    // From the first face's value on: what is always the same is then exactly 0, without rounding to blow up.
    const origin = embeddings[from + column]!;
    const value = (row: number) => embeddings[row * width + from + column]! - origin;
    let [mean, variance] = [0, 0];
    for (let row = 0; row < fitted; row++) mean += value(row) / fitted;
    for (let row = 0; row < fitted; row++) variance += (value(row) - mean) ** 2 / fitted;
    if (variance === 0) continue;
    const scale = 1 / Math.sqrt(variance);
    for (let row = 0; row < count; row++) data[row * cols + column] = (value(row) - mean) * scale;
  }
  return { rows: count, cols, data };
}

function meanOfRows(values: Float64Array, rows: number, cols: number): Float64Array {
  const mean = new Float64Array(cols);
  for (let at = 0; at < rows * cols; at++) mean[at % cols]! += values[at]! / rows;
  return mean;
}

/** Over the rows that both have. */
function squaredDistance(guess: Matrix, truth: Matrix): number {
  let sum = 0;
  for (let row = 0; row < truth.rows; row++) {
    for (let column = 0; column < truth.columns; column++) {
      sum += (guess.get(row, column) - truth.get(row, column)) ** 2;
    }
  }
  return sum;
}

/** Pearson's; 0 when one of the two is the same everywhere. */
export function correlationOf(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const { length } = a;
  let [meanA, meanB] = [0, 0];
  for (let at = 0; at < length; at++) {
    meanA += a[at]! / length;
    meanB += b[at]! / length;
  }
  let [both, squaresA, squaresB] = [0, 0, 0];
  for (let at = 0; at < length; at++) {
    both += (a[at]! - meanA) * (b[at]! - meanB);
    squaresA += (a[at]! - meanA) ** 2;
    squaresB += (b[at]! - meanB) ** 2;
  }
  return squaresA === 0 || squaresB === 0 ? 0 : both / Math.sqrt(squaresA * squaresB);
}

/** Structural similarity of two square grey images (Wang et al. 2004, Gaussian window of 11 pixels). */
export function similarityOf(a: Float64Array, b: Float64Array): number {
  const side = Math.sqrt(a.length);
  return ssim(greyImage(a), greyImage(b), undefined, side, side);
}

/** The form that the library reads: 8 bit, RGBA. */
function greyImage(values: Float64Array): Uint8ClampedArray {
  const image = new Uint8ClampedArray(4 * values.length).fill(255);
  for (const [at, value] of values.entries()) image.fill(value, 4 * at, 4 * at + 3);
  return image;
}
