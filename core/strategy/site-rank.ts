/** States cut to ranks: with which a site trains, and with which its update is compared. */
import type { RunConfig } from '../config/run-config.ts';
import { type LoraLayer, type ModelState, mapLayers } from '../lora/model-state.ts';
import { cutLayer } from '../lora/stack-factors.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { rejected } from './check-update.ts';

/** The state with which a site trains: cut to its entry in `siteRanks`, or the state itself when it has none. */
export function siteStart(
  { siteRanks }: Pick<RunConfig, 'siteRanks'>,
  siteName: string,
  state: ModelState,
): ModelState {
  // A name such as "constructor" must not find what every object has.
  const own = Object.hasOwn(siteRanks, siteName) ? siteRanks[siteName]! : undefined;
  return own === undefined ? state : mapLayers(state, (layer) => cutLayer(layer, own));
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
    if (own === undefined) throw rejected(`"${name}" is not a weight of the base model`);
    base.set(name, own);
  }
  return { ...start, lora, base };
}
