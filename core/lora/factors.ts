/** Factors of one layer: their sums (factor-sum.ts), and their product as a matrix. */
import { elementCount, type FloatTensor, floatTensor } from '../shared/tensor.ts';
import type { LoraLayer } from './model-state.ts';

export type { TruncatedFactors } from './cut-factors.ts';
export * from './factor-sum.ts';

/** ΔW = s·B·A as a matrix of the layer's weight: [out, in] or [out, in, kh, kw]. */
export function deltaWeight(layer: LoraLayer): FloatTensor {
  const { dims, values } = exactDelta(layer);
  return floatTensor(dims, Float32Array.from(values));
}

/** {@link deltaWeight} before rounding to float32. */
export function exactDelta(layer: LoraLayer): { dims: number[]; values: Float64Array } {
  const { a, b, r, scale } = layer;
  const [rows, inDims] = [b.dims[0]!, a.dims.slice(1)];
  const cols = elementCount(inDims);
  const delta = new Float64Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    const row = delta.subarray(i * cols, (i + 1) * cols);
    for (let k = 0; k < r; k++)
      addScaled(row, scale * b.data[i * r + k]!, a.data.subarray(k * cols, (k + 1) * cols));
  }
  return { dims: [rows, ...inDims], values: delta };
}

function addScaled(target: Float64Array, factor: number, values: Float32Array): void {
  for (let j = 0; j < target.length; j++) target[j]! += factor * values[j]!;
}
