/** Sizes of low-rank products and angles between them, without forming the products. */
import type { LoraLayer } from './model-state.ts';

type Factors = Pick<LoraLayer, 'r' | 'scale' | 'a' | 'b'>;

/**
 * ⟨ΔW_x, ΔW_y⟩ = s_x·s_y·Σ (B_xᵀ·B_y) ∘ (A_x·A_yᵀ), in float64; with itself the squared Frobenius norm. Costs
 * r_x·r_y·(out + in) instead of r·out·in. Both must belong to the same layer; ranks and scales may differ.
 */
export function factorInnerProduct(x: Factors, y: Factors): number {
  if (x.r === 0 || y.r === 0) return 0;
  const isOne = x === y;
  const right = rowProducts(rowsOfA(x, 0), isOne ? null : rowsOfA(y, 1));
  const left = rowProducts(columnsOfB(x, 0), isOne ? null : columnsOfB(y, 1));
  let sum = 0;
  for (let i = 0; i < x.r; i++) {
    // The inner products of a layer's rows with themselves are symmetric: only the upper half is there.
    for (let j = isOne ? i : 0; j < y.r; j++) {
      const times = isOne && i !== j ? 2 : 1;
      sum += times * left[i * y.r + j]! * right[i * y.r + j]!;
    }
  }
  return x.scale * y.scale * sum;
}

/** Vectors one after another; they stay only until the next call. */
interface Rows {
  data: Float64Array;
  length: number;
  count: number;
}

/** Room for the widened values of two layers: it grows to the largest, and a coordinator makes thousands of calls. */
const rooms = [new Float64Array(0), new Float64Array(0)];

function roomFor(size: number, which: 0 | 1): Float64Array {
  if (rooms[which]!.length < size) rooms[which] = new Float64Array(size);
  return rooms[which]!;
}

function rowsOfA({ r, a }: Factors, which: 0 | 1): Rows {
  const data = roomFor(a.data.length, which);
  data.set(a.data);
  return { data, length: a.data.length / r, count: r };
}

function columnsOfB({ r, b }: Factors, which: 0 | 1): Rows {
  const length = b.data.length / r;
  const data = roomFor(b.data.length, which);
  for (let i = 0; i < length; i++) {
    for (let k = 0; k < r; k++) data[k * length + i] = b.data[i * r + k]!;
  }
  return { data, length, count: r };
}

/** Inner products of all rows of x with all of y; y = null: of x with itself, entries (i, j) with j ≥ i alone. */
function rowProducts(x: Rows, y: Rows | null): Float64Array {
  const other = y ?? x;
  const products = new Float64Array(x.count * other.count);
  for (let i = 0; i < x.count; i += 2) {
    let j = y === null ? i : 0;
    if (i + 1 < x.count) {
      for (; j + 2 <= other.count; j += 2) fourProducts(x, i, other, j, products);
    }
    for (; j < other.count; j++) {
      for (let row = i; row < Math.min(i + 2, x.count); row++)
        products[row * other.count + j] = oneProduct(x, row, other, j);
    }
  }
  return products;
}

/** Two rows with two rows: sums that do not wait for each other, and each value is read for two of them. */
function fourProducts(x: Rows, i: number, y: Rows, j: number, products: Float64Array): void {
  const { data: xs, length } = x;
  const { data: ys, count } = y;
  const [x0, x1, y0, y1] = [i * length, (i + 1) * length, j * length, (j + 1) * length];
  let [s00, s01, s10, s11] = [0, 0, 0, 0];
  for (let k = 0; k < length; k++) {
    // One by one: an array to take apart would be made in every step.
    const p = xs[x0 + k]!;
    const q = xs[x1 + k]!;
    const u = ys[y0 + k]!;
    const v = ys[y1 + k]!;
    s00 += p * u;
    s01 += p * v;
    s10 += q * u;
    s11 += q * v;
  }
  const at = i * count + j;
  products[at] = s00;
  products[at + 1] = s01;
  products[at + count] = s10;
  products[at + count + 1] = s11;
}

function oneProduct(x: Rows, i: number, y: Rows, j: number): number {
  let sum = 0;
  for (let k = 0; k < x.length; k++) sum += x.data[i * x.length + k]! * y.data[j * y.length + k]!;
  return sum;
}
