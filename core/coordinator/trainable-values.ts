/** How much trains in a round, for the screens. */

import type { RunConfig } from '../config/run-config.ts';
import { trainableWeights } from '../engine/training-graph.ts';
import { countParameters, type ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { RoundPlan } from '../strategy/strategy.ts';

/** Values that a site trains which starts from `state`: factors or base weights, and the head. */
export function countTrainable(
  state: ModelState,
  plan: Pick<RoundPlan, 'mode' | 'trains'>,
  { lastK }: Pick<RunConfig, 'lastK'>,
  base: BaseModel,
): number {
  let count = countParameters({ ...state, lora: new Map(), base: new Map() });
  for (const name of trainableWeights(base, plan.mode, lastK)) count += base.weights.get(name)!.data.length;
  if (plan.mode !== 'lora') return count;
  for (const { a, b } of state.lora.values()) {
    if (plan.trains !== 'b') count += a.data.length;
    if (plan.trains !== 'a') count += b.data.length;
  }
  return count;
}
