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
  const columnsOfX = transposed(x);
  const columnsOfY = isOne ? columnsOfX : transposed(y);
  const left = rowProducts({ data: columnsOfX, count: x.r }, { data: columnsOfY, count: y.r }, isOne);
  const right = rowProducts({ data: x.a.data, count: x.r }, { data: y.a.data, count: y.r }, isOne);
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

interface Rows {
  data: Float32Array;
  count: number;
}

/** Inner products of all rows of x with all of y; where both are the same, entries (i, j) with j ≥ i alone. */
function rowProducts(x: Rows, y: Rows, isOne: boolean): Float64Array {
  const length = x.data.length / x.count;
  const products = new Float64Array(x.count * y.count);
  for (let i = 0; i < x.count; i++) {
    const row = x.data.subarray(i * length, (i + 1) * length);
    let j = isOne ? i : 0;
    for (; j + 4 <= y.count; j += 4) fourProducts(row, y.data, j * length, products, i * y.count + j);
    for (; j < y.count; j++) {
      let sum = 0;
      for (let k = 0; k < length; k++) sum += row[k]! * y.data[j * length + k]!;
      products[i * y.count + j] = sum;
    }
  }
  return products;
}

/** Four rows at a time: sums that do not wait for each other take a third of the time. */
function fourProducts(
  row: Float32Array,
  rows: Float32Array,
  start: number,
  products: Float64Array,
  at: number,
): void {
  const { length } = row;
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  const [from1, from2, from3] = [start + length, start + 2 * length, start + 3 * length];
  for (let k = 0; k < length; k++) {
    const value = row[k]!;
    s0 += value * rows[start + k]!;
    s1 += value * rows[from1 + k]!;
    s2 += value * rows[from2 + k]!;
    s3 += value * rows[from3 + k]!;
  }
  products[at] = s0;
  products[at + 1] = s1;
  products[at + 2] = s2;
  products[at + 3] = s3;
}

/** Columns of B one after another. */
function transposed({ r, b: { data } }: Factors): Float32Array {
  const rows = data.length / r;
  const turned = new Float32Array(data.length);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < r; k++) turned[k * rows + i] = data[i * r + k]!;
  }
  return turned;
}
