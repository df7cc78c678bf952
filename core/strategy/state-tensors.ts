/** A state as named tensors, and back: what options compute value by value (clipping, noise, medians, momentum). */

import type { RunConfig } from '../config/run-config.ts';
import type { LoraLayer, ModelState } from '../lora/model-state.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { rejected } from './check-update.ts';
import { cutLayer } from './site-rank.ts';
import type { RoundPlan } from './strategy.ts';

/** What says which parts of a state travel in a round, and how they are merged. */
export interface Travels {
  plan: Pick<RoundPlan, 'sends'>;
  config: Pick<RunConfig, 'localHead' | 'strategy' | 'freezeA'>;
}

/**
 * The tensors of a state that travel, by name: `lora.<module>.a`, `lora.<module>.b`, `head.<name>`, `base.<name>`.
 * Nothing is copied.
 */
export function stateTensors(state: ModelState, { plan, config }: Travels): Map<string, FloatTensor> {
  const tensors = new Map<string, FloatTensor>();
  for (const [module, { a, b }] of state.lora) {
    if (plan.sends !== 'b') tensors.set(`lora.${module}.a`, a);
    if (plan.sends !== 'a') tensors.set(`lora.${module}.b`, b);
  }
  if (!config.localHead) for (const [name, tensor] of state.head) tensors.set(`head.${name}`, tensor);
  for (const [name, tensor] of state.base) tensors.set(`base.${name}`, tensor);
  return tensors;
}

/** The state with the tensors of the same names replaced; the others stay. Ranks must be those of the state. */
export function withStateTensors(state: ModelState, tensors: ReadonlyMap<string, FloatTensor>): ModelState {
  const replaced = (prefix: string, old: ReadonlyMap<string, FloatTensor>) =>
    new Map([...old].map(([name, tensor]) => [name, tensors.get(`${prefix}.${name}`) ?? tensor]));
  const lora = new Map<string, LoraLayer>();
  for (const [module, layer] of state.lora) {
    const a = tensors.get(`lora.${module}.a`) ?? layer.a;
    const b = tensors.get(`lora.${module}.b`) ?? layer.b;
    lora.set(module, { ...layer, a, b });
  }
  return { ...state, lora, head: replaced('head', state.head), base: replaced('base', state.base) };
}

/**
 * The start state as far as `state` has counterparts: layers cut to the state's rank (first rows of A, first columns
 * of B), and base weights from `baseWeights`, the base model's own, where no round has replaced them yet.
 * @throws AppError UPDATE_REJECTED naming what has no counterpart, a higher rank or another scale
 */
export function startOf(
  state: ModelState,
  start: ModelState,
  baseWeights: ReadonlyMap<string, FloatTensor> = new Map(),
): ModelState {
  const lora = new Map<string, LoraLayer>();
  for (const [module, layer] of state.lora) {
    const own = start.lora.get(module);
    if (own === undefined) throw rejected(`the layer "${module}" was not asked for`);
    if (layer.scale !== own.scale) {
      throw rejected(`layer "${module}" has the scale ${layer.scale} instead of ${own.scale}`);
    }
    if (layer.r > own.r) {
      throw rejected(`layer "${module}" has rank ${layer.r}, but the round asks for ${own.r}`);
    }
    lora.set(module, cutLayer(own, layer.r));
  }
  const base = new Map<string, FloatTensor>();
  for (const name of state.base.keys()) {
    const own = start.base.get(name) ?? baseWeights.get(name);
    if (own === undefined) throw rejected(`"${name}" is no weight of the base model`);
    base.set(name, own);
  }
  return { ...start, lora, base };
}
