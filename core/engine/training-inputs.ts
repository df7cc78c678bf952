/** What a training graph is fed beside its parameters: pixels or features, labels, weights and dropout masks. */
import type { ValueType } from '../graph/graph.ts';
import { fillLoraMask } from '../lora/dropout.ts';
import { loraMaskName } from '../lora/inject.ts';
import { elementCount, type FloatTensor, floatTensor, type Tensor } from '../shared/tensor.ts';
import type { MicroBatch } from './batches.ts';
import type { Example } from './trainer-protocol.ts';

/** The same tensors are filled again for every part. */
export interface PartFeeds {
  /** @returns `labels` and `sampleWeights`; slots past the part's images have weight 0 */
  fill(part: MicroBatch): Record<string, Tensor>;
}

export function createPartFeeds(microBatch: number, examples: readonly Example[]): PartFeeds {
  const labels = new BigInt64Array(microBatch);
  const weights = new Float32Array(microBatch);
  const feeds = {
    labels: { dtype: 'int64', dims: [microBatch], data: labels } satisfies Tensor,
    sampleWeights: floatTensor([microBatch], weights),
  };
  return {
    fill({ draws, weights: own }) {
      for (let slot = 0; slot < microBatch; slot++) {
        const draw = draws[slot];
        labels[slot] = draw === undefined ? 0n : BigInt(examples[draw.index]!.label);
        weights[slot] = own[slot] ?? 0;
      }
      return feeds;
    },
  };
}

export interface MaskOptions {
  modules: readonly string[];
  microBatch: number;
  batchSize: number;
  /** Dropout probability. */
  probability: number;
  seed: number;
}

/**
 * Dropout masks by input name. Each image has masks of its own, drawn by step and place in the batch, so that
 * they do not depend on how the batch is cut.
 * @param inputTypes of the graph; the masks' first axis runs over the images (and their tokens)
 */
export function createMaskFeeds(inputTypes: ReadonlyMap<string, ValueType>, options: MaskOptions) {
  const { modules, microBatch, batchSize, probability, seed } = options;
  const masks = new Map<string, FloatTensor>();
  if (probability > 0) {
    for (const module of modules) {
      const type = inputTypes.get(loraMaskName(module));
      if (type !== undefined) masks.set(module, floatTensor(type.dims));
    }
  }
  const feeds = Object.fromEntries([...masks].map(([module, mask]) => [loraMaskName(module), mask]));
  return {
    fill(step: number, part: MicroBatch): Record<string, Tensor> {
      for (const [module, { dims, data }] of masks) {
        const perImage = elementCount(dims) / microBatch;
        for (let slot = 0; slot < part.draws.length; slot++) {
          fillLoraMask(data.subarray(slot * perImage, (slot + 1) * perImage), {
            probability,
            seed,
            step: step * batchSize + part.offset + slot,
            module,
          });
        }
      }
      return feeds;
    },
  };
}
