/** A run's frozen base delta and its global state as one adapter of the plain base model, for programs that know no frozen base delta. */
import type { MatrixProducts } from '../linalg/matrix-products.ts';
import { createFactorSum, rankLimit } from '../lora/factor-sum.ts';
import type { LoraLayer, ModelState } from '../lora/model-state.ts';
import { AppError } from '../shared/errors.ts';
import { floatTensor } from '../shared/tensor.ts';
import type { FrozenBaseDelta } from './strategy.ts';

/**
 * Sums the products of all parts and of the state. Factors are stacked, so that nothing is rounded but the scales'
 * ratios; where the stack would be higher than the layer's largest possible rank, the sum is decomposed instead, which
 * keeps all of it to float32's precision.
 * @param parts oldest first
 * @throws AppError CONFIG_INVALID when weights of the base model itself were changed, which factors cannot say
 */
export async function sumIntoAdapter(
  parts: FrozenBaseDelta,
  state: ModelState,
  products: MatrixProducts,
): Promise<ModelState> {
  if (state.base.size > 0 || parts.some((part) => part.base.size > 0)) {
    throw new AppError(
      'CONFIG_INVALID',
      'This run changed weights of the base model itself; a PEFT adapter holds factors only and would be another model.',
      {
        action:
          'Export it with "--format onnx" (the whole network in one file) or "--format weights" (the merged weights).',
      },
    );
  }
  if (parts.length === 0) return state;
  const lora = new Map<string, LoraLayer>();
  for (const [module, layer] of state.lora) {
    const below = parts.flatMap((part) => part.lora.get(module) ?? []);
    // Fresh factors above a stack, B = 0, add nothing but rank.
    const all = [...below, layer].filter(({ b }) => b.data.some((value) => value !== 0));
    lora.set(module, all.length === 0 ? layer : await sumLayers(layer, all, products));
  }
  return { ...state, lora };
}

async function sumLayers(
  shape: LoraLayer,
  layers: readonly LoraLayer[],
  products: MatrixProducts,
): Promise<LoraLayer> {
  const rank = layers.reduce((sum, { r }) => sum + r, 0);
  const limit = rankLimit(shape.a.dims, shape.b.dims);
  if (rank <= limit) return stack(shape, layers, rank);
  const sum = createFactorSum(shape.a.dims, shape.b.dims, products);
  for (const layer of layers) await sum.add({ weight: 1, ...layer });
  const found = await sum.decompose(limit);
  const r = Math.max(1, found.sizes.filter((size) => size > 0).length);
  const { a, b } = found.cut(r, shape.scale, { seed: 0 });
  return { ...shape, r: a.dims[0]!, a, b };
}

/** ΔW = s · [s₁/s·B₁ | s₂/s·B₂ | …] · [A₁; A₂; …] */
function stack(shape: LoraLayer, layers: readonly LoraLayer[], r: number): LoraLayer {
  const [, ...inDims] = shape.a.dims;
  const [out = 0, , ...bTail] = shape.b.dims;
  const a = floatTensor([r, ...inDims]);
  const b = floatTensor([out, r, ...bTail]);
  let start = 0;
  for (const layer of layers) {
    a.data.set(layer.a.data, start * (layer.a.data.length / layer.r));
    const ratio = layer.scale / shape.scale;
    for (let row = 0; row < out; row++)
      for (let column = 0; column < layer.r; column++)
        b.data[row * r + start + column] = ratio * layer.b.data[row * layer.r + column]!;
    start += layer.r;
  }
  return { ...shape, r, a, b };
}
