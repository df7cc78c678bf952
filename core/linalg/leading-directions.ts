/**
 * The largest singular values of a dense matrix and their directions, without computing all of them: subspace
 * iteration on M·Mᵀ (or Mᵀ·M, whichever is smaller) with Chebyshev filters (Zhou and Saad 2007, SIAM J. Matrix Anal.
 * Appl. 29, 954–971) and Rayleigh-Ritz, until the residuals prove that the values are true ones. The products of M
 * with itself lose what lies below 10⁻⁸ of the largest value; the last step, which goes back to M, makes up for it.
 * Filters only choose where to look: they run in float32 for as long as that brings the residuals down. All else,
 * the residuals above all, is in float64.
 */
import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { createRandom } from '../shared/random.ts';
import { chebyshevFilter, filterDegree, type Ritz } from './chebyshev-filter.ts';
import {
  type DenseMatrix,
  type MatrixProducts,
  type RoughMatrix,
  releaseMatrix,
  transposed,
} from './matrix-products.ts';
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
/** Below so many rows a stripe of a product takes longer than its transpose saves. */
const smallestStripe = 96;
const firstDegree = 10;
const maxDegree = 40;
/** A float32 filter that leaves more than this share of the worst residual was the last one: rounding is in the way. */
const worthwhile = 0.1;

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
  const gram = await gramMatrix(matrix, products);
  // Of trace 1: nothing overflows below.
  for (let i = 0; i < gram.data.length; i++) gram.data[i]! /= energy;
  const rough = { ...gram, data: new Float32Array(gram.data) };
  const block = await invariantRows(gram, rough, { blockSize, wanted, products });
  releaseMatrix(gram);
  releaseMatrix(rough);
  if (block === null) return null;
  const other = await products.multiply(block, matrix, { transposeY: !isWide });
  const [own, images] = [rowsOf(block), rowsOf(other)];
  const vectors = decomposeStack(isWide ? { left: own, right: images } : { left: images, right: own });
  return { vectors, energy };
}

/** M·Mᵀ or Mᵀ·M, whichever is smaller. It is symmetric: of many rows only the lower triangle of blocks is computed. */
async function gramMatrix(matrix: DenseMatrix, products: MatrixProducts): Promise<DenseMatrix> {
  const { rows, cols } = matrix;
  if (rows > cols) return products.multiply(matrix, matrix, { transposeX: true });
  const step = Math.max(smallestStripe, Math.ceil(rows / 4));
  const data = new Float64Array(rows * rows);
  for (let from = 0; from < rows; from += step) {
    const to = Math.min(rows, from + step);
    const stripe = { rows: to - from, cols, data: matrix.data.subarray(from * cols, to * cols) };
    const above = { rows: to, cols, data: matrix.data.subarray(0, to * cols) };
    const product = await products.multiply(stripe, above, { transposeY: true });
    for (let i = from; i < to; i++) {
      const row = product.data.subarray((i - from) * to, (i - from + 1) * to);
      data.set(row, i * rows);
      for (let j = 0; j < from; j++) data[j * rows + i] = row[j]!;
    }
    releaseMatrix(product);
  }
  return { rows, cols: rows, data };
}

/**
 * Orthonormal rows that span what belongs to the largest eigenvalues.
 * @param gram symmetric, no eigenvalue below zero
 * @param rough the same in float32
 */
async function invariantRows(
  gram: DenseMatrix,
  rough: RoughMatrix,
  { blockSize, wanted, products }: { blockSize: number; wanted: number; products: MatrixProducts },
): Promise<DenseMatrix | null> {
  const random = createRandom(blockSize);
  const start = Float32Array.from({ length: gram.rows * blockSize }, () => 2 * random.uniform() - 1);
  const guess = await products.multiplyRoughly(rough, { rows: gram.rows, cols: blockSize, data: start });
  let block = await orthonormalRows(transposed({ ...guess, data: new Float64Array(guess.data) }), products);
  let isRough = true;
  let before = Infinity;
  let spent = 1;
  for (let sweep = 0; ; sweep++) {
    const ritz = await rayleighRitz(block, gram, products);
    spent++;
    const shortfall = residualShortfall(ritz, wanted);
    const worst = Math.max(...shortfall);
    if (worst <= 1) return ritz.block;
    if (spent >= maxProducts) return null;
    if (worst > worthwhile * before) isRough = false;
    before = sweep === 0 ? Infinity : worst;
    const most = sweep === 0 ? firstDegree : maxDegree;
    const degree = filterDegree(ritz.values, shortfall, { most, isRough });
    const columns = isRough
      ? await chebyshevFilter<Float32Array>(ritz, degree, {
          narrow: (values) => new Float32Array(values),
          times: (x) => products.multiplyRoughly(rough, x),
        })
      : await chebyshevFilter<Float64Array>(ritz, degree, {
          narrow: (values) => values,
          times: (x) => products.multiply(gram, x),
        });
    block = await orthonormalRows(columns, products);
    spent += degree - 1;
  }
}

async function rayleighRitz(block: DenseMatrix, gram: DenseMatrix, products: MatrixProducts): Promise<Ritz> {
  // The image of each row as a column: the runtime computes matrix times block in half the time of the reverse.
  const image = await products.multiply(gram, block, { transposeY: true });
  const projected = await products.multiply(block, image);
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
  const data = new Float64Array(count * count);
  order.forEach((column, k) => {
    for (let i = 0; i < count; i++) data[k * count + i] = eigen.eigenvectorMatrix.get(i, column);
  });
  const rotation = { rows: count, cols: count, data };
  return {
    values: order.map((k) => eigen.realEigenvalues[k]!),
    block: await products.multiply(rotation, block),
    image: await products.multiply(rotation, image, { transposeY: true }),
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
