/** A base model with other weights in the same places, as a run's frozen base delta makes one. */
import { AppError } from '../shared/errors.ts';
import { type FloatTensor, sameDims } from '../shared/tensor.ts';
import type { BaseModel } from './base-model.ts';

/**
 * Id and hash stay those of the base model, which is what its adapters name.
 * @throws AppError SHAPE_MISMATCH for a weight that the base model does not have or has in another shape
 */
export function withReplacedWeights(base: BaseModel, replaced: ReadonlyMap<string, FloatTensor>): BaseModel {
  if (replaced.size === 0) return base;
  for (const [name, { dims }] of replaced) {
    const own = base.weights.get(name);
    if (own !== undefined && sameDims(own.dims, dims)) continue;
    throw new AppError('SHAPE_MISMATCH', `The base model ${base.id} has no weight "${name}" of this shape.`);
  }
  return {
    ...base,
    weights: new Map([...base.weights, ...replaced]),
    buildGraph(batch) {
      const graph = base.buildGraph(batch);
      const initializers = [...graph.initializers].map(
        ([name, tensor]) => [name, replaced.get(name) ?? tensor] as const,
      );
      return { ...graph, initializers: new Map(initializers) };
    },
  };
}
