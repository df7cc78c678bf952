/** What is done with the factors of one layer: ranks and scales changed, products formed and measured. */
import { elementCount, type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { createFactorSum, type FactorPart, type TruncatedFactors } from './factor-sum.ts';
import type { LoraLayer } from './model-state.ts';

export * from './factor-sum.ts';

/**
 * Σ weight·scale·B·A of one layer, cut to `rank`; see {@link FactorSum.truncate}.
 * @param parts at least one; ranks and scales may differ
 */
export function stackAndTruncate(
  parts: readonly FactorPart[],
  rank: number,
  scale: number,
  options: { seed: number },
): TruncatedFactors {
  const first = parts[0];
  if (first === undefined) throw new RangeError('nothing to add up');
  const sum = createFactorSum(first.a.dims, first.b.dims);
  for (const part of parts) sum.add(part);
  return sum.truncate(rank, scale, options);
}

/** The layer at another rank: the best approximation when it shrinks, the same ΔW when it grows. */
export function changeRank(layer: LoraLayer, rank: number, seed: number): LoraLayer {
  const { a, b } = stackAndTruncate([{ weight: 1, ...layer }], rank, layer.scale, { seed });
  return { ...layer, r: a.dims[0]!, a, b };
}

/** The layer with another scale and the same ΔW. @param scale > 0 */
export function changeScale(layer: LoraLayer, scale: number): LoraLayer {
  const ratio = layer.scale / scale;
  return {
    ...layer,
    scale,
    b: floatTensor(
      layer.b.dims,
      layer.b.data.map((value) => value * ratio),
    ),
  };
}

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
