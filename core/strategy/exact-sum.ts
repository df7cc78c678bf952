/** Exact sums of a run's layers, on the fastest matrix products that this machine has. */
import { createOnnxRuntimeProducts } from '../engine/onnxruntime/matrix-products.ts';
import { createFactorSum, type FactorSum } from '../lora/factor-sum.ts';
import type { LoraLayer } from '../lora/model-state.ts';

const products = createOnnxRuntimeProducts();

/** An empty sum for layers of this shape; see {@link FactorSum}. */
export function createExactSum({ a, b }: Pick<LoraLayer, 'a' | 'b'>): FactorSum {
  return createFactorSum(a.dims, b.dims, products);
}
