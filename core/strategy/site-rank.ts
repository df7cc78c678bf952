/** Factors cut to the rank that a site can afford: the leading rows of A and columns of B. */

import type { RunConfig } from '../config/run-config.ts';
import type { LoraLayer, ModelState } from '../lora/model-state.ts';
import { floatTensor } from '../shared/tensor.ts';

/**
 * The first `r` rows of A and columns of B with the same scale, as HetLoRA cuts (Cho et al. 2024, arXiv 2401.06432).
 * The layer itself when it has no more. After an exact aggregation the components stand in the order of their size,
 * so that this keeps the largest ones.
 */
export function cutLayer(layer: LoraLayer, r: number): LoraLayer {
  if (layer.r <= r) return layer;
  const [, ...inDims] = layer.a.dims;
  const [out = 0, , ...bTail] = layer.b.dims;
  const width = layer.r === 0 ? 0 : layer.a.data.length / layer.r;
  const b = new Float32Array(out * r);
  for (let row = 0; row < out; row++) b.set(layer.b.data.subarray(row * layer.r, row * layer.r + r), row * r);
  return {
    ...layer,
    r,
    a: floatTensor([r, ...inDims], layer.a.data.slice(0, r * width)),
    b: floatTensor([out, r, ...bTail], b),
  };
}

/** The state with which a site trains: cut to its entry in `siteRanks`, or the state itself when it has none. */
export function siteStart(
  { siteRanks }: Pick<RunConfig, 'siteRanks'>,
  siteName: string,
  state: ModelState,
): ModelState {
  // A name such as "constructor" must not find what every object has.
  const own = Object.hasOwn(siteRanks, siteName) ? siteRanks[siteName]! : undefined;
  if (own === undefined) return state;
  const lora = [...state.lora].map(([module, layer]) => [module, cutLayer(layer, own)] as const);
  return { ...state, lora: new Map(lora) };
}
