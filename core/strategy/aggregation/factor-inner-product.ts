/** Sizes of low-rank products and angles between them, without forming the products. */
import type { LoraLayer } from '../../lora/model-state.ts';

type Factors = Pick<LoraLayer, 'r' | 'scale' | 'a' | 'b'>;

/**
 * ⟨ΔW_x, ΔW_y⟩ = s_x·s_y·Σ (B_xᵀ·B_y) ∘ (A_x·A_yᵀ), in float64; with itself the squared Frobenius norm. Costs
 * r_x·r_y·(out + in) instead of r·out·in. Both must belong to the same layer; ranks and scales may differ.
 */
export function factorInnerProduct(x: Factors, y: Factors): number {
  if (x.r === 0 || y.r === 0) return 0;
  const columnsOfX = transposed(x);
  const columnsOfY = x === y ? columnsOfX : transposed(y);
  const rows = columnsOfX.length / x.r;
  const cols = x.a.data.length / x.r;
  let sum = 0;
  for (let i = 0; i < x.r; i++) {
    // The two Gram matrices of a layer with itself are symmetric.
    for (let j = x === y ? i : 0; j < y.r; j++) {
      const times = x === y && i !== j ? 2 : 1;
      const left = dot(columnsOfX, i * rows, columnsOfY, j * rows, rows);
      sum += times * left * dot(x.a.data, i * cols, y.a.data, j * cols, cols);
    }
  }
  return x.scale * y.scale * sum;
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

function dot(x: Float32Array, xStart: number, y: Float32Array, yStart: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += x[xStart + i]! * y[yStart + i]!;
  return sum;
}
