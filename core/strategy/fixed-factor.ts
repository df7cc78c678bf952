/** Runs in which A is fixed while the rank falls (`freezeA`): who has one, and the rows that its A is made of. */

import type { RunConfig } from '../config/run-config.ts';
import { rankLimit } from '../lora/factor-sum.ts';
import type { LoraLayer } from '../lora/model-state.ts';
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

/** A layer by its name and shape. */
export interface LayerShape {
  readonly module: string;
  readonly aDims: readonly number[];
  readonly bDims: readonly number[];
}

export const shapeOfLayer = ({ module, a, b }: Pick<LoraLayer, 'module' | 'a' | 'b'>): LayerShape => ({
  module,
  aDims: a.dims,
  bDims: b.dims,
});

/** How many rows are drawn for a layer: its rank where the run's is r_max. */
export function seededRank(config: SeededRowsConfig): (layer: LayerShape) => number {
  const rankOf = layerRanks(config, config.rMax);
  return ({ module, aDims, bDims }) => Math.min(rankOf(module), rankLimit(aDims, bDims));
}

/** The rows that a layer's A is made of, [`seededRank`, ...inDims]. @param layer of any rank */
export function seededRowsOf(
  config: SeededRowsConfig,
  layer: Pick<LoraLayer, 'module' | 'a' | 'b'>,
): FloatTensor {
  const { module, a } = layer;
  return drawSeededRows(config.seed, module, seededRank(config)(shapeOfLayer(layer)), a.dims.slice(1));
}
