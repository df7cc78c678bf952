/** Layers with a fixed A, merged value by value, at the next round's ranks. */
import { setImmediate } from 'node:timers/promises';
import type { RunConfig } from '../../config/run-config.ts';
import { type LoraLayer, rankLimit, shapesAtRank } from '../../lora/model-state.ts';
import { drawSeededRows, type LayerDirections, layerDirections } from '../../lora/seeded-rows.ts';
import { floatTensor } from '../../shared/tensor.ts';
import { spectralRanksFor } from '../allocation.ts';
import { layerRanks, layerScales } from '../lora-settings.ts';
import type { AggregateResult, AggregateRound } from '../strategy.ts';

type Layers = ReadonlyMap<string, LoraLayer>;
type Ranks = ReadonlyMap<string, number>;

/**
 * Cuts each layer of more than its next rank to the best approximation of that rank, by a rotation of A within the space of
 * its rows; others stay as they are. Layers that have no factors yet get the rows that the run's seed draws, and B zero.
 * With the allocation `spectral` the ranks of all layers come from one budget, but none rises again.
 */
export async function rotatedLayers(
  { config, next }: AggregateRound,
  merged: AggregateResult,
): Promise<AggregateResult> {
  const { lora } = merged.state;
  const wanted = plannedRanks(config, next.rank, lora);
  const [now, then] = [total([...lora.values()].map(({ r }) => r)), total([...wanted.values()])];
  if (now === 0 && then > 0) return withLayers(merged, freshLayers(config, lora, wanted), 1);
  if (now <= then) return merged;
  const directions = await directionsOf(lora);
  const ranks = config.allocation === 'spectral' ? spectrumRanks(directions, wanted) : wanted;
  const scaleOf = layerScales(config);
  const layers = new Map<string, LoraLayer>();
  let keptEnergy = 0;
  for (const [module, layer] of lora) {
    const found = directions.get(module)!;
    const r = Math.min(ranks.get(module)!, layer.r);
    if (r === layer.r) {
      keptEnergy += found.energy;
      layers.set(module, layer);
      continue;
    }
    const scale = scaleOf(module, r);
    const { a, b, keptEnergy: kept } = found.cut(r, scale);
    keptEnergy += kept;
    layers.set(module, { module, r, scale, a, b });
  }
  const energy = total([...directions.values()].map((found) => found.energy));
  return withLayers(merged, layers, energy === 0 ? 1 : Math.min(1, keptEnergy / energy));
}

const total = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

function withLayers(merged: AggregateResult, lora: Layers, energyKept: number): AggregateResult {
  return { ...merged, state: { ...merged.state, lora }, energyKept };
}

/** Of a round of rank `rank`, with the same for every layer but for rank patterns and small layers. */
function plannedRanks(config: RunConfig, rank: number, lora: Layers): Ranks {
  const rankOf = layerRanks(config, rank);
  return new Map([...lora].map(([module, layer]) => [module, Math.min(rankOf(module), rankLimit(layer))]));
}

async function directionsOf(lora: Layers): Promise<ReadonlyMap<string, LayerDirections>> {
  const found = new Map<string, LayerDirections>();
  for (const [module, layer] of lora) {
    found.set(module, layerDirections(layer));
    // A coordinator's broker lives in the same process: let it speak between two decompositions.
    await setImmediate();
  }
  return found;
}

/** As many directions as `wanted` has in all, for the layers in which they are largest. */
function spectrumRanks(directions: ReadonlyMap<string, LayerDirections>, wanted: Ranks): Ranks {
  const sizes = new Map([...directions].map(([module, found]) => [module, found.sizes]));
  const limits = new Map([...sizes].map(([module, found]) => [module, found.length]));
  return spectralRanksFor(sizes, wanted, limits);
}

/** The first seeded rows and B zero, for layers that had no factors. */
function freshLayers(config: RunConfig, lora: Layers, ranks: Ranks): Layers {
  const scaleOf = layerScales(config);
  const fresh = (layer: LoraLayer): LoraLayer => {
    const { module } = layer;
    const r = ranks.get(module)!;
    const a = drawSeededRows(config.seed, module, r, layer.a.dims.slice(1));
    return { module, r, scale: scaleOf(module, r), a, b: floatTensor(shapesAtRank(layer, r).b.dims) };
  };
  return new Map([...lora].map(([module, layer]) => [module, fresh(layer)]));
}
