/** A run's frozen base delta and its global state as one adapter of the plain base model, for programs that know no frozen base delta. */
import type { MatrixProducts } from '../linalg/matrix-products.ts';
import { createFactorSum } from '../lora/factor-sum.ts';
import { type LoraLayer, type ModelState, rankLimit } from '../lora/model-state.ts';
import { stackFactors } from '../lora/stack-factors.ts';
import { AppError } from '../shared/errors.ts';
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
      'This run changed weights of the base model itself. A PEFT adapter holds factors only, so it would be a different model.',
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

/** ΔW = s · [s₁/s·B₁ | s₂/s·B₂ | …] · [A₁; A₂; …] */
async function sumLayers(
  shape: LoraLayer,
  layers: readonly LoraLayer[],
  products: MatrixProducts,
): Promise<LoraLayer> {
  const r = layers.reduce((sum, layer) => sum + layer.r, 0);
  const limit = rankLimit(shape);
  if (r <= limit) {
    const parts = layers.map((layer) => ({ factors: layer, weight: layer.scale / shape.scale }));
    return { ...shape, r, ...stackFactors(parts) };
  }
  const sum = createFactorSum(shape.a.dims, shape.b.dims, products);
  for (const layer of layers) await sum.add({ weight: 1, ...layer });
  const found = await sum.decompose(limit);
  const kept = Math.max(1, found.sizes.filter((size) => size > 0).length);
  const { a, b } = found.cut(kept, shape.scale, { seed: 0 });
  return { ...shape, r: a.dims[0]!, a, b };
}
