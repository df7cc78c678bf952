/** The terms of a running sum of products b·aᵀ: stacked while they are few, then the sum as a dense matrix. */
import {
  createPlainProducts,
  type DenseMatrix,
  type MatrixProducts,
  releaseMatrix,
  sumTermsPlainly,
  type WeightedTerms,
} from '../linalg/matrix-products.ts';
import { rowsOf } from '../linalg/orthonormal-rows.ts';
import type { VectorStack } from '../linalg/small-core.ts';

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
  /** Looks at the sum as a matrix, which it must neither write to nor keep. */
  withMatrix<T>(look: (whole: DenseMatrix) => Promise<T>): Promise<T>;
  /** ⟨sum, factor·B·A⟩, with factors as for `add`. */
  innerProduct(factor: number, a: Float32Array, b: Float32Array, r: number): Promise<number>;
}

/** So many terms are multiplied at once: enough for a fast product, and small beside the matrix. */
const blockTerms = 128;
/** QR and SVD of a stack up to this size are faster than products of the whole. */
const smallStack = 48;

/** An empty sum of `rows` × `cols`. @param products null: plain loops, and `add` is done when it returns */
export function createFactorStore(rows: number, cols: number, products: MatrixProducts | null): FactorStore {
  const capacity = Math.min(rows, cols, blockTerms);
  const some = products ?? createPlainProducts();
  /** Terms that wait: what each is multiplied by, columns of B, rows of A. There is room for `held` of them. */
  let count = 0;
  let held = 0;
  let weights = new Float64Array(0);
  let left = new Float32Array(0);
  let right = new Float32Array(0);
  let sum: DenseMatrix | null = null;
  let isBusy = false;

  function put(factor: number, a: Float32Array, b: Float32Array, r: number, from: number, to: number): void {
    const needed = count + to - from;
    if (held < needed) grow(Math.min(capacity, Math.max(needed, 2 * held)));
    copyColumns({ data: b, cols: r, from, to }, { data: left, cols: held, at: count });
    right.set(a.subarray(from * cols, to * cols), count * cols);
    weights.fill(factor, count, needed);
    count = needed;
  }

  /** Only while nobody looks at the waiting terms. */
  function grow(terms: number): void {
    const [oldWeights, oldLeft, oldRight] = [weights, left, right];
    weights = new Float64Array(terms);
    weights.set(oldWeights);
    left = new Float32Array(terms * rows);
    copyColumns({ data: oldLeft, cols: held, from: 0, to: count }, { data: left, cols: terms, at: 0 });
    right = new Float32Array(terms * cols);
    right.set(oldRight);
    releaseMatrix({ data: oldLeft });
    releaseMatrix({ data: oldRight });
    held = terms;
  }

  /** Views where all the room is taken. */
  function waiting(): WeightedTerms {
    if (count === held) return { weights, left, right };
    const packed = new Float32Array(rows * count);
    copyColumns({ data: left, cols: held, from: 0, to: count }, { data: packed, cols: count, at: 0 });
    return { weights: weights.subarray(0, count), left: packed, right: right.subarray(0, count * cols) };
  }

  /** The waiting terms have joined the sum. */
  function take(whole: DenseMatrix): void {
    if (sum !== null) releaseMatrix(sum);
    sum = whole;
    count = 0;
  }

  /** How many of `left` terms fit. */
  const room = (leftOver: number) => Math.min(leftOver, capacity - count);

  function addNow(factor: number, a: Float32Array, b: Float32Array, r: number): void {
    for (let k = 0; k < r; ) {
      if (count === capacity) {
        take(sumTermsPlainly(waiting(), rows, sum));
      }
      const next = k + room(r - k);
      put(factor, a, b, r, k, next);
      k = next;
    }
  }

  async function addSoon(
    fast: MatrixProducts,
    ...[factor, a, b, r]: [factor: number, a: Float32Array, b: Float32Array, r: number]
  ): Promise<void> {
    isBusy = true;
    try {
      for (let k = 0; k < r; ) {
        if (count === capacity) {
          take(await fast.sumTerms(waiting(), rows, sum));
        }
        const next = k + room(r - k);
        put(factor, a, b, r, k, next);
        k = next;
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
      if (sum === null) return stackOf(waiting(), rows, cols);
      const whole = rowsOf(sumTermsPlainly(waiting(), rows, sum));
      if (rows <= cols) return { left: unitVectors(rows), right: whole };
      return { left: columnsOf(whole, cols), right: unitVectors(cols) };
    },
    isBetterWhole: (wanted) => sum !== null || wanted === 0 || (count > smallStack && count > 2 * wanted),
    async withMatrix(look) {
      requireRest();
      if (count === 0) return look(sum ?? { rows, cols, data: new Float64Array(rows * cols) });
      // Terms that wait go on waiting: more may follow.
      const whole = await some.sumTerms(waiting(), rows, sum);
      try {
        return await look(whole);
      } finally {
        releaseMatrix(whole);
      }
    },
    async innerProduct(factor, a, b, r) {
      requireRest();
      if (r === 0) return 0;
      const [x, y] = [widened(b, rows, r), widened(a, r, cols)];
      let total = 0;
      if (sum !== null) {
        const images = await some.multiply(sum, y, { transposeY: true });
        total += dot(images.data, x.data);
      }
      if (count > 0) {
        const terms = waiting();
        const lefts = await some.multiply(widened(terms.left, rows, count), x, { transposeX: true });
        const rights = await some.multiply(widened(terms.right, count, cols), y, { transposeY: true });
        for (let k = 0; k < count; k++) {
          const at = k * r;
          total += terms.weights[k]! * dot(lefts.data.subarray(at, at + r), rights.data.subarray(at, at + r));
        }
      }
      return factor * total;
    },
  };
}

/** Columns `from` to `to` of one row-major matrix become those from `at` on of another with as many rows. */
function copyColumns(
  { data, cols, from, to }: { data: Float32Array; cols: number; from: number; to: number },
  target: { data: Float32Array; cols: number; at: number },
): void {
  const wide = to - from;
  if (wide === 0) return;
  for (let read = from, write = target.at; read < data.length; read += cols, write += target.cols) {
    for (let k = 0; k < wide; k++) target.data[write + k] = data[read + k]!;
  }
}

function stackOf({ weights, left, right }: WeightedTerms, rows: number, cols: number): VectorStack {
  const count = weights.length;
  const columns = Array.from(weights, (weight, k) =>
    Float64Array.from({ length: rows }, (_, i) => weight * left[i * count + k]!),
  );
  return {
    left: columns,
    right: columns.map((_, k) => new Float64Array(right.subarray(k * cols, (k + 1) * cols))),
  };
}

const widened = (data: Float32Array, rows: number, cols: number): DenseMatrix => ({
  ...{ rows, cols },
  data: new Float64Array(data),
});

function dot(x: Float64Array, y: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
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
