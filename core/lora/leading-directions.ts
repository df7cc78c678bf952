/**
 * The largest singular values of a dense matrix and their directions, without computing all of them: subspace
 * iteration on M·Mᵀ (or Mᵀ·M, whichever is smaller) with Chebyshev filters (Zhou and Saad 2007, SIAM J. Matrix Anal.
 * Appl. 29, 954–971) and Rayleigh-Ritz, until the residuals prove that the values are true ones. The products of M
 * with itself lose what lies below 10⁻⁸ of the largest value; the last step, which goes back to M, makes up for it.
 */
import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { createRandom } from '../shared/random.ts';
import { type DenseMatrix, type MatrixProducts, releaseMatrix } from './matrix-products.ts';
import { orthonormalRows, rowsOf } from './orthonormal-rows.ts';
import { decomposeStack, notFinite, type SingularVectors } from './small-core.ts';

export interface LeadingDirections {
  readonly vectors: SingularVectors;
  /** Squared Frobenius norm of the whole matrix. */
  readonly energy: number;
}

/**
 * A found λ = σ² is off by at most its residual (Weyl), so this bounds the relative error of each kept energy. Where
 * eigenvalues lie apart the error is the square of it.
 */
const residualShare = 1e-6;
/** In units of the largest λ: what rounding leaves of a residual. Values σ below 3·10⁻⁷ σ₁ count as found. */
const roundingFloor = 1e-13;
/** Products with the block (a millisecond each at 768 × 768), after which the full decomposition is the better way. */
const maxProducts = 1500;
const firstDegree = 10;
const maxDegree = 40;
/** By how much a filter may favour the first direction over the last wanted one before rounding blurs the latter. */
const maxContrast = 1e8;

/**
 * @param wanted number of singular values
 * @returns at least `wanted` of them; null when so many are wanted, or they lie so close, that the full
 *   decomposition is the better way
 * @throws AppError UPDATE_REJECTED when the matrix is not finite
 */
export async function leadingDirections(
  matrix: DenseMatrix,
  wanted: number,
  products: MatrixProducts,
): Promise<LeadingDirections | null> {
  let energy = 0;
  for (let i = 0; i < matrix.data.length; i++) energy += matrix.data[i]! * matrix.data[i]!;
  if (!Number.isFinite(energy)) throw notFinite();
  if (energy === 0 || wanted === 0) return { vectors: decomposeStack({ left: [], right: [] }), energy };
  const size = Math.min(matrix.rows, matrix.cols);
  // The further the last row of the block is from the last wanted one, the fewer products it takes.
  const blockSize = wanted + Math.max(16, Math.ceil(wanted / 2));
  if (blockSize > size / 2) return null;
  const isWide = matrix.rows <= matrix.cols;
  const gram = await products.multiply(matrix, matrix, isWide ? { transposeY: true } : { transposeX: true });
  // Of trace 1: nothing overflows below.
  for (let i = 0; i < gram.data.length; i++) gram.data[i]! /= energy;
  const block = await invariantRows(gram, blockSize, wanted, products);
  releaseMatrix(gram);
  if (block === null) return null;
  const other = await products.multiply(block, matrix, { transposeY: !isWide });
  const [own, images] = [rowsOf(block), rowsOf(other)];
  const vectors = decomposeStack(isWide ? { left: own, right: images } : { left: images, right: own });
  return { vectors, energy };
}

/**
 * Orthonormal rows that span what belongs to the largest eigenvalues.
 * @param gram symmetric, no eigenvalue below zero
 */
async function invariantRows(
  gram: DenseMatrix,
  blockSize: number,
  wanted: number,
  products: MatrixProducts,
): Promise<DenseMatrix | null> {
  const random = createRandom(blockSize);
  const start = Float64Array.from({ length: blockSize * gram.rows }, () => random.normal());
  const guess = await products.multiply({ rows: blockSize, cols: gram.rows, data: start }, gram);
  let block = await orthonormalRows(guess, products);
  let spent = 1;
  for (let sweep = 0; ; sweep++) {
    const ritz = await rayleighRitz(block, gram, products);
    spent++;
    const shortfall = residualShortfall(ritz, wanted);
    if (shortfall.every((ratio) => ratio <= 1)) return ritz.block;
    if (spent >= maxProducts) return null;
    const degree = filterDegree(ritz.values, shortfall, sweep === 0 ? firstDegree : maxDegree);
    block = await orthonormalRows(await filtered(ritz, degree, gram, products), products);
    spent += degree - 1;
  }
}

/** A block whose rows are the best guesses of eigenvectors that its span holds, from the largest eigenvalue down. */
interface Ritz {
  readonly values: readonly number[];
  readonly block: DenseMatrix;
  /** The block times the matrix. */
  readonly image: DenseMatrix;
}

async function rayleighRitz(block: DenseMatrix, gram: DenseMatrix, products: MatrixProducts): Promise<Ritz> {
  const image = await products.multiply(block, gram);
  const projected = await products.multiply(block, image, { transposeY: true });
  const { rows: count } = block;
  const symmetric = new Matrix(count, count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++)
      symmetric.set(i, j, (projected.data[i * count + j]! + projected.data[j * count + i]!) / 2);
  }
  const eigen = new EigenvalueDecomposition(symmetric, { assumeSymmetric: true });
  const order = eigen.realEigenvalues
    .map((_, k) => k)
    .sort((x, y) => eigen.realEigenvalues[y]! - eigen.realEigenvalues[x]!);
  const turn = new Float64Array(count * count);
  order.forEach((column, k) => {
    for (let i = 0; i < count; i++) turn[k * count + i] = eigen.eigenvectorMatrix.get(i, column);
  });
  const rotation = { rows: count, cols: count, data: turn };
  return {
    values: order.map((k) => eigen.realEigenvalues[k]!),
    block: await products.multiply(rotation, block),
    image: await products.multiply(rotation, image),
  };
}

/** Residual of each wanted row over what it may be. */
function residualShortfall({ values, block, image }: Ritz, wanted: number): number[] {
  const { cols } = block;
  return values.slice(0, wanted).map((value, k) => {
    let sum = 0;
    for (let i = k * cols; i < (k + 1) * cols; i++) sum += (image.data[i]! - value * block.data[i]!) ** 2;
    return Math.sqrt(sum) / Math.max(residualShare * value, roundingFloor * values[0]!);
  });
}

/** Where a Chebyshev polynomial of [0, last value] is looked at for this value: beyond 1 it grows as cosh. */
function growthRate(value: number, values: readonly number[]): number {
  return Math.acosh(Math.max(1, (2 * value) / filterEnd(values) - 1));
}

function filterEnd(values: readonly number[]): number {
  return Math.max(values.at(-1)!, 1e-14 * values[0]!);
}

function filterDegree(values: readonly number[], shortfall: readonly number[], most: number): number {
  let needed = 2;
  shortfall.forEach((ratio, k) => {
    if (ratio > 1) needed = Math.max(needed, Math.acosh(4 * ratio) / growthRate(values[k]!, values));
  });
  const spread = growthRate(values[0]!, values) - growthRate(values[shortfall.length - 1]!, values);
  return Math.max(2, Math.floor(Math.min(needed + 1, most, Math.log(maxContrast) / spread)));
}

/** The block times a Chebyshev polynomial of the matrix, scaled so that the first row keeps its size. */
async function filtered(
  { values, block, image }: Ritz,
  degree: number,
  gram: DenseMatrix,
  products: MatrixProducts,
): Promise<DenseMatrix> {
  const half = filterEnd(values) / 2;
  const first = half / (values[0]! - half);
  let scale = first;
  let before: Float64Array = block.data;
  let now: Float64Array = image.data.map((value, i) => ((value - half * before[i]!) * scale) / half);
  for (let step = 2; step <= degree; step++) {
    const { data } = await products.multiply({ ...block, data: now }, gram);
    const next = 1 / (2 / first - scale);
    for (let i = 0; i < data.length; i++)
      data[i] = ((data[i]! - half * now[i]!) * 2 * next) / half - scale * next * before[i]!;
    if (step > 2) releaseMatrix({ ...block, data: before });
    [before, now, scale] = [now, data, next];
  }
  return { ...block, data: now };
}
