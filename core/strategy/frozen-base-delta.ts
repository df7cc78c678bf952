/** A run's frozen base delta written into the weights of the base model, under the global state. */
import { mergeState } from '../lora/merge.ts';
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { withReplacedWeights } from '../models/replaced-weights.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import type { FrozenBaseDelta } from './strategy.ts';

/** Weights that differ from the base model's own. */
export type MergedWeights = ReadonlyMap<string, FloatTensor>;

/**
 * Adds one part: its base weights replace those below, its layers are added as products s·B·A, computed in float64 and
 * rounded once to float32. Adding parts one by one gives the same bits as adding them all.
 * @throws AppError SHAPE_MISMATCH
 */
export function addFrozenBasePart(base: BaseModel, below: MergedWeights, part: ModelState): MergedWeights {
  const merged = mergeState(withReplacedWeights(base, below), part);
  return new Map([...merged].filter(([name, tensor]) => tensor !== base.weights.get(name)));
}

/**
 * The state with the frozen base delta under it: `base` holds the merged weights, and over them the state's own.
 * @param parts oldest first
 * @throws AppError SHAPE_MISMATCH when a part does not belong to the base model
 */
export function applyFrozenBaseDelta(base: BaseModel, parts: FrozenBaseDelta, state: ModelState): ModelState {
  let merged: MergedWeights = new Map();
  for (const part of parts) merged = addFrozenBasePart(base, merged, part);
  return onMergedWeights(state, merged);
}

/** The state on weights merged before. */
export function onMergedWeights(state: ModelState, merged: MergedWeights): ModelState {
  return merged.size === 0 ? state : { ...state, base: new Map([...merged, ...state.base]) };
}
