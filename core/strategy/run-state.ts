/** The global state with which a run starts. */
import { initialState } from '../engine/initial-state.ts';
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { resolveTargetModules } from '../models/target-modules.ts';
import { floatTensor } from '../shared/tensor.ts';
import { getStrategy } from './registry.ts';
import type { RunConfig } from './strategy.ts';

/**
 * Factors at the first round's rank (A random, B zero) and a fresh head. When SA-FedLoRA initiates with base
 * weights, its layers are there at rank 0: so the state says which layers get factors later.
 * @throws AppError CONFIG_INVALID for an unknown preset of modules
 */
export function createRunState(config: RunConfig, base: BaseModel): ModelState {
  const { classes, targetModules, loraScale: scale, seed } = config;
  const r = getStrategy(config.strategy).configureTrain(config, 0).rank;
  const state = initialState(base, { classes, targetModules, r, scale, seed });
  if (config.strategy !== 'sa-fedlora' || r > 0) return state;
  const lora = resolveTargetModules(base, targetModules).map(({ module, kind, weightDims }) => {
    const [out = 0, ...inDims] = weightDims;
    const b = floatTensor(kind === 'conv' ? [out, 0, 1, 1] : [out, 0]);
    return [module, { module, r: 0, scale, a: floatTensor([0, ...inDims]), b }] as const;
  });
  return { ...state, lora: new Map(lora) };
}
