/** The global state with which a run starts. */
import { preparingRounds, type RunConfig } from '../config/run-config.ts';
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { initialState } from '../models/initial-state.ts';
import { resolveTargetModules } from '../models/target-modules.ts';
import { floatTensor } from '../shared/tensor.ts';
import { layerRanks, layerScales } from './lora-settings.ts';
import { getStrategy } from './registry.ts';

/**
 * Factors at the first round's rank (A random, B zero) and a fresh head. When SA-FedLoRA initiates with base
 * weights, its layers are there at rank 0: so the state says which layers get factors later. Where the head is made of class
 * means, it is empty until then.
 * @throws AppError CONFIG_INVALID for an unknown preset of modules
 */
export function createRunState(config: RunConfig, base: BaseModel): ModelState {
  const state = freshState(config, base);
  return preparingRounds(config) === 0 ? state : { ...state, head: emptyHead(state) };
}

/** Whatever the sites send in the first round is then the difference that it makes. */
function emptyHead({ head }: ModelState): ModelState['head'] {
  return new Map([...head].map(([name, { dims }]) => [name, floatTensor(dims)]));
}

function freshState(config: RunConfig, base: BaseModel): ModelState {
  const { classes, targetModules, excludeModules, seed } = config;
  const strategy = getStrategy(config.strategy);
  const { adaptsLayers } = strategy;
  const { rank } = strategy.configureTrain(config, 0);
  const scaleOf = layerScales(config);
  const ranks = { r: rank, rankOf: layerRanks(config, rank) };
  const state = initialState(base, {
    classes,
    targetModules,
    excludeModules,
    ...ranks,
    scale: scaleOf,
    seed,
  });
  if (!adaptsLayers || rank > 0) return state;
  const lora = resolveTargetModules(base, targetModules, excludeModules).map(
    ({ module, kind, weightDims }) => {
      const [out = 0, ...inDims] = weightDims;
      const b = floatTensor(kind === 'conv' ? [out, 0, 1, 1] : [out, 0]);
      return [
        module,
        { module, r: 0, scale: scaleOf(module, 0), a: floatTensor([0, ...inDims]), b },
      ] as const;
    },
  );
  return { ...state, lora: new Map(lora) };
}
