/** Products of dense matrices: an interface, and its implementation in plain JavaScript. */

/** Row-major. */
export interface DenseMatrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float64Array;
}

/** Row-major, in float32: for what is corrected afterwards. */
export interface RoughMatrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float32Array;
}

export interface ProductOptions {
  readonly transposeX?: boolean;
  readonly transposeY?: boolean;
}

/** Σ weight_k · left_k · right_kᵀ, term by term. */
export interface WeightedTerms {
  readonly weights: Float64Array;
  /** Vectors side by side, as the columns of a B: rows of the sum × terms. */
  readonly left: Float32Array;
  /** Vectors one below another, as the rows of an A: terms × columns of the sum. */
  readonly right: Float32Array;
}

export interface MatrixProducts {
  /**
   * The sum of the terms as a new matrix, in float64.
   * @param rows length of a left vector
   * @param onto what the terms are added to; it stays as it is
   */
  sumTerms(terms: WeightedTerms, rows: number, onto?: DenseMatrix | null): Promise<DenseMatrix>;

  /**
   * op(x)·op(y) in float64, op being the transpose where the options say so.
   * @throws RangeError when the inner sizes differ
   */
  multiply(x: DenseMatrix, y: DenseMatrix, options?: ProductOptions): Promise<DenseMatrix>;

  /** x·y in float32, in less than half the time. @throws RangeError when the inner sizes differ */
  multiplyRoughly(x: RoughMatrix, y: RoughMatrix): Promise<RoughMatrix>;
}

/**
 * Gives a matrix's memory back at once; it is empty from then on. Matrices of megabytes pile up faster than the
 * garbage collector, which does not count them as its own, comes by.
 */
export function releaseMatrix({ data }: { readonly data: Float32Array | Float64Array }): void {
  if (data.buffer instanceof ArrayBuffer) data.buffer.transfer(0);
}

/** Rows, columns and inner size of a product. @throws RangeError when the inner sizes differ */
export function productSize(
  x: Pick<DenseMatrix, 'rows' | 'cols'>,
  y: Pick<DenseMatrix, 'rows' | 'cols'>,
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
    sumTerms: async (terms, rows, onto) => sumTermsPlainly(terms, rows, onto),
    multiply: async (x, y, options) => multiplyPlainly(x, y, options),
    async multiplyRoughly(x, y) {
      const { rows, cols, inner } = productSize(x, y);
      const data = new Float32Array(rows * cols);
      addProduct(data, x.data, y.data, { rows, cols, inner });
      return { rows, cols, data };
    },
  };
}

/** {@link MatrixProducts.sumTerms} by plain loops, at once. */
export function sumTermsPlainly(
  { weights, left, right }: WeightedTerms,
  rows: number,
  onto: DenseMatrix | null = null,
): DenseMatrix {
  const count = weights.length;
  const cols = onto?.cols ?? (count === 0 ? 0 : right.length / count);
  const data = onto?.data.slice() ?? new Float64Array(rows * cols);
  const weighed = Float64Array.from(left, (value, at) => value * weights[at % count]!);
  addProduct(data, weighed, right, { rows, cols, inner: count });
  return { rows, cols, data };
}

/** {@link MatrixProducts.multiply} by plain loops, at once: for small matrices. */
export function multiplyPlainly(x: DenseMatrix, y: DenseMatrix, options: ProductOptions = {}): DenseMatrix {
  const { rows, cols, inner } = productSize(x, y, options);
  const left = options.transposeX === true ? transposed(x) : x;
  const right = options.transposeY === true ? transposed(y) : y;
  const data = new Float64Array(rows * cols);
  addProduct(data, left.data, right.data, { rows, cols, inner });
  return { rows, cols, data };
}

type Values = Float32Array | Float64Array;

/** @param left rows × inner  @param right inner × cols */
function addProduct(
  sum: Values,
  left: Values,
  right: Values,
  { rows, cols, inner }: { rows: number; cols: number; inner: number },
): void {
  for (let i = 0; i < rows; i++) {
    const target = sum.subarray(i * cols, (i + 1) * cols);
    for (let k = 0; k < inner; k++) {
      const factor = left[i * inner + k]!;
      const start = k * cols;
      for (let j = 0; j < cols; j++) target[j]! += factor * right[start + j]!;
    }
  }
}

/** Rows become columns. */
export function transposed({ rows, cols, data }: DenseMatrix): DenseMatrix {
  const turned = new Float64Array(data.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) turned[j * rows + i] = data[i * cols + j]!;
  }
  return { rows: cols, cols: rows, data: turned };
}
