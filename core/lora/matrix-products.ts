/** Products of dense float64 matrices: an interface, and its implementation in plain JavaScript. */

/** Row-major. */
export interface DenseMatrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float64Array;
}

export interface ProductOptions {
  readonly transposeX?: boolean;
  readonly transposeY?: boolean;
}

/** Σ weight_k · left_k · right_kᵀ, term by term. */
export interface WeightedTerms {
  readonly weights: Float64Array;
  /** Vectors one after another: terms × rows of the sum. */
  readonly left: Float32Array;
  /** terms × columns of the sum. */
  readonly right: Float32Array;
}

export interface MatrixProducts {
  /** The sum of the terms as a matrix, in float64. @param rows length of a left vector */
  sumTerms(terms: WeightedTerms, rows: number): Promise<DenseMatrix>;

  /**
   * op(x)·op(y) in float64, op being the transpose where the options say so.
   * @throws RangeError when the inner sizes differ
   */
  multiply(x: DenseMatrix, y: DenseMatrix, options?: ProductOptions): Promise<DenseMatrix>;
}

/**
 * Gives a matrix's memory back at once; it is empty from then on. Matrices of megabytes pile up faster than the
 * garbage collector, which does not count them as its own, comes by.
 */
export function releaseMatrix({ data }: DenseMatrix): void {
  if (data.buffer instanceof ArrayBuffer) data.buffer.transfer(0);
}

/** Rows, columns and inner size of a product. @throws RangeError when the inner sizes differ */
export function productSize(
  x: DenseMatrix,
  y: DenseMatrix,
  { transposeX = false, transposeY = false }: ProductOptions = {},
): { rows: number; cols: number; inner: number } {
  const [rows, inner] = transposeX ? [x.cols, x.rows] : [x.rows, x.cols];
  const [yInner, cols] = transposeY ? [y.cols, y.rows] : [y.rows, y.cols];
  if (inner !== yInner) throw new RangeError(`cannot multiply ${rows} × ${inner} by ${yInner} × ${cols}`);
  return { rows, cols, inner };
}

/** Plain loops, for machines without a faster way. */
export function createPlainProducts(): MatrixProducts {
  return {
    sumTerms: async (terms, rows) => sumTermsPlainly(terms, rows),
    multiply: async (x, y, options) => multiplyPlainly(x, y, options),
  };
}

/** {@link MatrixProducts.sumTerms} by plain loops, at once. */
export function sumTermsPlainly({ weights, left, right }: WeightedTerms, rows: number): DenseMatrix {
  const count = weights.length;
  const cols = count === 0 ? 0 : right.length / count;
  const data = new Float64Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    const target = data.subarray(i * cols, (i + 1) * cols);
    for (let k = 0; k < count; k++) {
      const factor = weights[k]! * left[k * rows + i]!;
      const start = k * cols;
      for (let j = 0; j < cols; j++) target[j]! += factor * right[start + j]!;
    }
  }
  return { rows, cols, data };
}

/** {@link MatrixProducts.multiply} by plain loops, at once: for small matrices. */
export function multiplyPlainly(x: DenseMatrix, y: DenseMatrix, options: ProductOptions = {}): DenseMatrix {
  const { rows, cols, inner } = productSize(x, y, options);
  const left = options.transposeX === true ? transposed(x) : x;
  const right = options.transposeY === true ? transposed(y) : y;
  const data = new Float64Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    const target = data.subarray(i * cols, (i + 1) * cols);
    for (let k = 0; k < inner; k++) {
      const factor = left.data[i * inner + k]!;
      const start = k * cols;
      for (let j = 0; j < cols; j++) target[j]! += factor * right.data[start + j]!;
    }
  }
  return { rows, cols, data };
}

function transposed({ rows, cols, data }: DenseMatrix): DenseMatrix {
  const turned = new Float64Array(data.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) turned[j * rows + i] = data[i * cols + j]!;
  }
  return { rows: cols, cols: rows, data: turned };
}
