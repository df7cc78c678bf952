/** The terms of a running sum of products b·aᵀ: stacked while they are few, then the sum as a dense matrix. */
import { type DenseMatrix, type MatrixProducts, multiplyPlainly } from './matrix-products.ts';
import { rowsOf } from './orthonormal-rows.ts';
import type { VectorStack } from './small-core.ts';

export interface FactorStore {
  /**
   * Adds factor·B·A; the values are copied.
   * @param a r × cols
   * @param b rows × r
   */
  add(factor: number, a: Float32Array, b: Float32Array, r: number): Promise<void> | void;
  /** Vectors whose products make up the sum; at most min(rows, cols) of them, not shared. */
  vectors(): VectorStack;
  /** Whether the sum's largest `wanted` directions are found faster from the dense matrix than from the stack. */
  isBetterWhole(wanted: number): boolean;
  /** The sum as a matrix, not to be written to. */
  toMatrix(): Promise<DenseMatrix>;
}

/** So many terms are multiplied at once: enough for a fast product, and small beside the matrix. */
const blockTerms = 256;
/** QR and SVD of a stack up to this size are faster than products of the whole. */
const smallStack = 48;

/** An empty sum of `rows` × `cols`. @param products null: plain loops, and `add` is done when it returns */
export function createFactorStore(rows: number, cols: number, products: MatrixProducts | null): FactorStore {
  const limit = Math.min(rows, cols);
  const capacity = Math.min(limit, blockTerms);
  /** Terms that wait: columns of B and rows of A as rows, and what each is multiplied by. */
  let count = 0;
  let left = new Float32Array(0);
  let right = new Float32Array(0);
  const factors = new Float64Array(capacity);
  let sum: Float64Array | null = null;
  let isBusy = false;

  function put(factor: number, a: Float32Array, b: Float32Array, r: number, k: number): void {
    if (left.length < (count + 1) * rows) grow(Math.min(capacity, Math.max(16, 2 * count)));
    const column = left.subarray(count * rows, (count + 1) * rows);
    for (let i = 0; i < rows; i++) column[i] = b[i * r + k]!;
    right.set(a.subarray(k * cols, (k + 1) * cols), count * cols);
    factors[count] = factor;
    count++;
  }

  function grow(terms: number): void {
    const [oldLeft, oldRight] = [left, right];
    left = new Float32Array(terms * rows);
    left.set(oldLeft);
    right = new Float32Array(terms * cols);
    right.set(oldRight);
  }

  /** The waiting terms as two factors of a product, with the weights on the smaller one's side. */
  function waiting(): { x: DenseMatrix; y: DenseMatrix } {
    const x = { rows: count, cols: rows, data: Float64Array.from(left.subarray(0, count * rows)) };
    for (let k = 0; k < count; k++) {
      for (let i = k * rows; i < (k + 1) * rows; i++) x.data[i]! *= factors[k]!;
    }
    return { x, y: { rows: count, cols, data: Float64Array.from(right.subarray(0, count * cols)) } };
  }

  /** The waiting terms, multiplied, join the sum. */
  function take({ data }: DenseMatrix): void {
    if (sum === null) sum = data;
    else for (let i = 0; i < sum.length; i++) sum[i]! += data[i]!;
    count = 0;
  }

  function addNow(factor: number, a: Float32Array, b: Float32Array, r: number): void {
    for (let k = 0; k < r; k++) {
      if (count === capacity) {
        const { x, y } = waiting();
        take(multiplyPlainly(x, y, { transposeX: true }));
      }
      put(factor, a, b, r, k);
    }
  }

  async function addSoon(
    fast: MatrixProducts,
    ...[factor, a, b, r]: [factor: number, a: Float32Array, b: Float32Array, r: number]
  ): Promise<void> {
    isBusy = true;
    try {
      for (let k = 0; k < r; k++) {
        if (count === capacity) {
          const { x, y } = waiting();
          take(await fast.multiply(x, y, { transposeX: true }));
        }
        put(factor, a, b, r, k);
      }
    } finally {
      isBusy = false;
    }
  }

  function requireRest(): void {
    if (isBusy) throw new RangeError('the sum is still being added to: wait for add()');
  }

  return {
    add(factor, a, b, r) {
      requireRest();
      if (products === null || count + r <= capacity) addNow(factor, a, b, r);
      else return addSoon(products, factor, a, b, r);
    },
    vectors() {
      requireRest();
      const { x, y } = waiting();
      if (sum === null) return { left: rowsOf(x), right: rowsOf(y) };
      const whole = rowsOf({ rows, cols, data: sum.slice() });
      addProducts(whole, x, y);
      if (rows <= cols) return { left: unitVectors(rows), right: whole };
      return { left: columnsOf(whole, cols), right: unitVectors(cols) };
    },
    isBetterWhole: (wanted) => sum !== null || (count > smallStack && count > 2 * wanted),
    async toMatrix() {
      requireRest();
      // Terms that wait may do so still: more may follow.
      const { x, y } = waiting();
      if (sum !== null && count === 0) return { rows, cols, data: sum };
      const options = { transposeX: true };
      const { data } = await (products?.multiply(x, y, options) ?? multiplyPlainly(x, y, options));
      if (sum !== null) for (let i = 0; i < data.length; i++) data[i]! += sum[i]!;
      return { rows, cols, data };
    },
  };
}

function addProducts(whole: readonly Float64Array[], x: DenseMatrix, y: DenseMatrix): void {
  whole.forEach((row, i) => {
    for (let k = 0; k < x.rows; k++) {
      const factor = x.data[k * x.cols + i]!;
      const start = k * y.cols;
      for (let j = 0; j < row.length; j++) row[j]! += factor * y.data[start + j]!;
    }
  });
}

function columnsOf(rows: readonly Float64Array[], count: number): Float64Array[] {
  return Array.from({ length: count }, (_, j) => Float64Array.from(rows, (row) => row[j]!));
}

function unitVectors(size: number): Float64Array[] {
  return Array.from({ length: size }, (_, i) => {
    const vector = new Float64Array(size);
    vector[i] = 1;
    return vector;
  });
}
