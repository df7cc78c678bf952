/** How much trains in a round, for the screens. */

import { countParameters, type ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { trainableWeights } from '../models/trainable-weights.ts';
import type { RoundPlan, RunConfig } from '../strategy/strategy.ts';
import { trainedParts } from '../strategy/what-travels.ts';

/** Values that a site trains which starts from `state`: factors or base weights, and the head. */
export function countTrainable(
  state: ModelState,
  plan: Pick<RoundPlan, 'mode' | 'trains'>,
  { lastK }: Pick<RunConfig, 'lastK'>,
  base: BaseModel,
): number {
  const weights = trainableWeights(base, plan.mode, lastK).map(
    (name) => [name, base.weights.get(name)!] as const,
  );
  const lora: ModelState['lora'] = plan.mode === 'lora' ? state.lora : new Map();
  return countParameters({ ...state, lora, base: new Map(weights) }, trainedParts(plan));
}
