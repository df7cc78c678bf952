/** Means of factors of different ranks, filled up with zeros, weighted by the size of each site's product. */
import { factorInnerProduct } from '../../lora/factor-inner-product.ts';
import type { LoraLayer } from '../../lora/model-state.ts';
import { elementCount, type FloatTensor, floatTensor } from '../../shared/tensor.ts';
import { rejected } from '../check-update.ts';
import { applyServerOptimiser } from '../server-optimiser.ts';
import { stateTensors, withStateTensors } from '../state-tensors.ts';
import type { AggregateRound } from '../strategy.ts';
import type { LayerMerge } from './aggregate.ts';
import { createTensorMean } from './tensor-mean.ts';

/** So that sites count by their share where no site's product has a size; far below any other weight. */
const leastWeight = 2 ** -200;

/**
 * Per layer: A ← Σ p_k·[A_k; 0] and B ← Σ p_k·[B_k | 0] with p_k = ‖s_k·B_k·A_k‖ / Σ_j ‖s_j·B_j·A_j‖.
 * @throws AppError UPDATE_REJECTED for a layer of another scale than the global one
 */
export function paddedLayers(round: AggregateRound): LayerMerge {
  const { config, global, memory } = round;
  const means = new Map([...global.lora.keys()].map((module) => [module, createTensorMean()]));
  return {
    add({ share, state }) {
      for (const [module, layer] of state.lora) {
        const { r, scale } = global.lora.get(module)!;
        if (layer.scale !== scale) throw rejected(`layer "${module}" must keep the scale ${scale}`);
        const size = Math.sqrt(Math.max(0, factorInnerProduct(layer, layer)));
        const factors = new Map([['a', paddedA(layer, r)]]).set('b', paddedB(layer, r));
        means.get(module)!.add(factors, size + leastWeight * share);
      }
    },
    async finish() {
      const after = new Map<string, FloatTensor>();
      for (const [module, mean] of means) {
        for (const [factor, tensor] of mean.result()) after.set(`lora.${module}.${factor}`, tensor);
      }
      // Rows of A and columns of B keep their places from round to round, so that their values have a history.
      const before = stateTensors({ ...global, head: new Map(), base: new Map() }, round);
      const step = applyServerOptimiser(config.serverOptimiser, { before, after, memory });
      const { lora } = withStateTensors(global, step.tensors);
      return step.memory === null ? { lora } : { lora, memory: step.memory };
    },
  };
}

function paddedA({ a, r }: LoraLayer, rank: number): FloatTensor {
  if (r === rank) return a;
  const [, ...inDims] = a.dims;
  const data = new Float32Array(rank * elementCount(inDims));
  data.set(a.data);
  return floatTensor([rank, ...inDims], data);
}

function paddedB({ b, r }: LoraLayer, rank: number): FloatTensor {
  if (r === rank) return b;
  const [rows = 0, , ...bTail] = b.dims;
  const data = new Float32Array(rows * rank);
  for (let i = 0; i < rows; i++) data.set(b.data.subarray(i * r, (i + 1) * r), i * rank);
  return floatTensor([rows, rank, ...bTail], data);
}
