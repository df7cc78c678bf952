/** Layers with a fixed A, merged value by value, at the next round's ranks. */
import { setImmediate } from 'node:timers/promises';
import { type LayerDirections, layerDirections } from '../../lora/drawn-rows.ts';
import type { LoraLayer } from '../../lora/model-state.ts';
import { elementCount, floatTensor } from '../../shared/tensor.ts';
import { spectralRanks } from '../allocation.ts';
import { drawnRank, drawnRowsOf, shapeOfLayer } from '../fixed-factor.ts';
import { layerRanks, layerScales } from '../lora-settings.ts';
import type { AggregateResult, AggregateRound, RunConfig } from '../strategy.ts';

type Layers = ReadonlyMap<string, LoraLayer>;
type Ranks = ReadonlyMap<string, number>;

/**
 * Cuts each layer of more than its next rank to the best approximation of that rank, by a turn of A within the space of
 * its rows; others stay bit for bit. Layers that have no factors yet get the rows that the run's seed draws, and B zero.
 * With the allocation `spectral` the ranks of all layers come from one budget, but none rises again.
 */
export async function turnedLayers(
  { config, next }: AggregateRound,
  merged: AggregateResult,
): Promise<AggregateResult> {
  const { lora } = merged.state;
  const wanted = plannedRanks(config, next.rank, lora);
  if ([...lora].every(([module, { r }]) => r === wanted.get(module))) return merged;
  const directions = await directionsOf(lora);
  const ranks = config.allocation === 'spectral' ? spectrumRanks(directions, wanted) : wanted;
  const scaleOf = layerScales(config);
  const layers = new Map<string, LoraLayer>();
  let [energy, keptEnergy] = [0, 0];
  for (const [module, layer] of lora) {
    const r = ranks.get(module)!;
    const found = directions.get(module)!;
    energy += found.energy;
    if (r < layer.r) {
      const scale = scaleOf(module, r);
      const { a, b, keptEnergy: kept } = found.cut(r, scale);
      keptEnergy += kept;
      layers.set(module, { module, r, scale, a, b });
    } else {
      keptEnergy += found.energy;
      layers.set(module, r === layer.r ? layer : freshLayer(config, layer, r));
    }
  }
  const energyKept = energy === 0 ? 1 : Math.min(1, keptEnergy / energy);
  return { ...merged, state: { ...merged.state, lora: layers }, energyKept };
}

/** Of a round of rank `rank`, with the same for every layer but for rank patterns and small layers. */
function plannedRanks(config: RunConfig, rank: number, lora: Layers): Ranks {
  const rankOf = layerRanks(config, rank);
  const drawn = drawnRank(config);
  return new Map(
    [...lora].map(([module, layer]) => [module, Math.min(rankOf(module), drawn(shapeOfLayer(layer)))]),
  );
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
  // Where nothing was learnt yet no layer stands out.
  if ([...directions.values()].every(({ energy }) => energy === 0)) return wanted;
  const sizes = new Map([...directions].map(([module, found]) => [module, found.sizes]));
  const limits = new Map([...sizes].map(([module, found]) => [module, found.length]));
  const budget = [...wanted.values()].reduce((sum, rank) => sum + rank, 0);
  return spectralRanks(sizes, budget, limits);
}

/** The first drawn rows and B zero, for a layer that had no factors. */
function freshLayer(config: RunConfig, layer: LoraLayer, r: number): LoraLayer {
  const { module, b } = layer;
  const rows = drawnRowsOf(config, layer);
  const [, ...inDims] = rows.dims;
  const [out = 0, , ...bTail] = b.dims;
  const a = floatTensor([r, ...inDims], rows.data.slice(0, r * elementCount(inDims)));
  return { module, r, scale: layerScales(config)(module, r), a, b: floatTensor([out, r, ...bTail]) };
}
