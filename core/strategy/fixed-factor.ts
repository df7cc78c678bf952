/** Runs in which A is fixed while the rank falls (`freezeA`): who has one, and the rows that its A is made of. */
import type { RunConfig } from '../config/run-config.ts';
import { type LayerOf, rankLimit, type Shape } from '../lora/model-state.ts';
import { drawSeededRows } from '../lora/seeded-rows.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { layerRanks } from './lora-settings.ts';
import { getStrategy } from './registry.ts';

/** Another strategy may carry the setting, without a meaning. */
export function fixesA(config: Pick<RunConfig, 'strategy' | 'freezeA'>): boolean {
  return getStrategy(config.strategy).traits(config).rotatesA;
}

/** Settings from which both ends draw A. */
export type SeededRowsConfig = Pick<RunConfig, 'seed' | 'rMax' | 'rankPattern'>;

/** How many rows are drawn for a layer: its rank where the run's is r_max. */
export function seededRank(config: SeededRowsConfig): (layer: LayerOf<Shape>) => number {
  const rankOf = layerRanks(config, config.rMax);
  return (layer) => Math.min(rankOf(layer.module), rankLimit(layer));
}

/** The rows that a layer's A is made of, [`seededRank`, ...inDims]. @param layer of any rank */
export function seededRowsOf(config: SeededRowsConfig, layer: LayerOf<Shape>): FloatTensor {
  return drawSeededRows(config.seed, layer.module, seededRank(config)(layer), layer.a.dims.slice(1));
}
