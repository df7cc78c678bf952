/** Means of factors of different ranks, filled up with zeros, weighted by the size of each site's product. */
import { factorInnerProduct } from '../../lora/factor-inner-product.ts';
import { allParts, nameOfA, nameOfB, tensorsOf, withTensors } from '../../lora/model-state.ts';
import { padLayer } from '../../lora/stack-factors.ts';
import { rejected } from '../check-update.ts';
import { applyServerOptimiser } from '../server-optimiser.ts';
import type { AggregateRound } from '../strategy.ts';
import type { LayerMerge } from './aggregate.ts';
import { createTensorMean } from './tensor-mean.ts';

/** So that sites count by their share where no site's product has a size; far below any other weight. */
const leastWeight = 2 ** -200;

/**
 * Per layer: A ← Σ p_k·[A_k; 0] and B ← Σ p_k·[B_k | 0] with p_k = ‖s_k·B_k·A_k‖ / Σ_j ‖s_j·B_j·A_j‖.
 * @throws AppError UPDATE_REJECTED for a layer of another scale than the global one
 */
export function paddedLayers({ config, global, memory }: AggregateRound): LayerMerge {
  const means = new Map([...global.lora.keys()].map((module) => [module, createTensorMean()]));
  return {
    add({ share, state }) {
      for (const [module, layer] of state.lora) {
        const { r, scale } = global.lora.get(module)!;
        if (layer.scale !== scale) throw rejected(`layer "${module}" must keep the scale ${scale}`);
        const size = Math.sqrt(Math.max(0, factorInnerProduct(layer, layer)));
        const { a, b } = padLayer(layer, r);
        const factors = new Map([[nameOfA(module), a]]).set(nameOfB(module), b);
        means.get(module)!.add(factors, size + leastWeight * share);
      }
    },
    async finish() {
      const after = new Map([...means.values()].flatMap((mean) => [...mean.result()]));
      // Rows of A and columns of B keep their places from round to round, so that their values have a history.
      const before = tensorsOf(global, { ...allParts, head: false, base: false });
      const step = applyServerOptimiser(config.serverOptimiser, { before, after, memory });
      const { lora } = withTensors(global, step.tensors);
      return step.memory === null ? { lora } : { lora, memory: step.memory };
    },
  };
}
