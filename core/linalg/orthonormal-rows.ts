/** Orthonormal rows that span the same as those given. */
import { householderQr } from './householder.ts';
import type { DenseMatrix, MatrixProducts } from './matrix-products.ts';

/** Below this a pivot says that the rows all but depend on each other; Cholesky would lose too many digits. */
const smallestPivot = 1e-9;

/**
 * By Cholesky decomposition of the rows' inner products, twice, since the first leaves an error of their condition
 * (CholeskyQR2: Yamamoto et al. 2015, ETNA 44, 306–326); by Householder reflections where rows depend on each other,
 * with some orthonormal row in the place of each that adds nothing.
 */
export async function orthonormalRows(matrix: DenseMatrix, products: MatrixProducts): Promise<DenseMatrix> {
  const scaled = unitRows(matrix);
  const once = await byCholesky(scaled, products);
  const twice = once === null ? null : await byCholesky(once, products);
  return twice ?? byReflections(scaled);
}

/** Views of a matrix's rows. */
export function rowsOf({ rows, cols, data }: DenseMatrix): Float64Array[] {
  return Array.from({ length: rows }, (_, i) => data.subarray(i * cols, (i + 1) * cols));
}

function unitRows({ rows, cols, data }: DenseMatrix): DenseMatrix {
  const scaled = data.slice();
  for (const row of rowsOf({ rows, cols, data: scaled })) {
    let sum = 0;
    for (let i = 0; i < cols; i++) sum += row[i]! * row[i]!;
    if (sum > 0) for (let i = 0; i < cols; i++) row[i]! /= Math.sqrt(sum);
  }
  return { rows, cols, data: scaled };
}

async function byCholesky(matrix: DenseMatrix, products: MatrixProducts): Promise<DenseMatrix | null> {
  const { rows: count } = matrix;
  const { data: inner } = await products.multiply(matrix, matrix, { transposeY: true });
  // L of inner = L·Lᵀ, in the lower triangle.
  for (let j = 0; j < count; j++) {
    for (let i = j; i < count; i++) {
      let sum = inner[i * count + j]!;
      for (let k = 0; k < j; k++) sum -= inner[i * count + k]! * inner[j * count + k]!;
      if (i === j) {
        if (!(sum > smallestPivot)) return null;
        inner[j * count + j] = Math.sqrt(sum);
      } else inner[i * count + j] = sum / inner[j * count + j]!;
    }
  }
  return products.multiply({ rows: count, cols: count, data: inverseOfLower(inner, count) }, matrix);
}

function inverseOfLower(lower: Float64Array, count: number): Float64Array {
  const inverse = new Float64Array(count * count);
  for (let j = 0; j < count; j++) {
    inverse[j * count + j] = 1 / lower[j * count + j]!;
    for (let i = j + 1; i < count; i++) {
      let sum = 0;
      for (let k = j; k < i; k++) sum -= lower[i * count + k]! * inverse[k * count + j]!;
      inverse[i * count + j] = sum / lower[i * count + i]!;
    }
  }
  return inverse;
}

function byReflections(matrix: DenseMatrix): DenseMatrix {
  const { rows: count, cols } = matrix;
  const { applyQ } = householderQr(rowsOf(matrix));
  const data = new Float64Array(count * cols);
  for (let k = 0; k < count; k++) {
    const unit = new Float64Array(count);
    unit[k] = 1;
    data.set(applyQ(unit), k * cols);
  }
  return { rows: count, cols, data };
}
