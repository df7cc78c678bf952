/** Layers with a fixed A, merged value by value, at the next round's ranks. */
import { setImmediate } from 'node:timers/promises';
import { type LayerDirections, layerDirections } from '../../lora/drawn-rows.ts';
import { factorInnerProduct } from '../../lora/factor-inner-product.ts';
import type { LoraLayer } from '../../lora/model-state.ts';
import { elementCount, floatTensor } from '../../shared/tensor.ts';
import { spectralRanks } from '../allocation.ts';
import { drawnRank, drawnRowsOf, shapeOfLayer } from '../fixed-factor.ts';
import { layerRanks, layerScales } from '../lora-settings.ts';
import type { AggregateResult, AggregateRound } from '../strategy.ts';

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
  const rankOf = layerRanks(config, next.rank);
  const drawn = drawnRank(config);
  const wanted = new Map(
    [...lora].map(([module, layer]) => [module, Math.min(rankOf(module), drawn(shapeOfLayer(layer)))]),
  );
  const directions = new Map<string, LayerDirections>();
  const isCut = [...lora].some(([module, { r }]) => r > wanted.get(module)!);
  for (const [module, layer] of isCut ? lora : []) {
    directions.set(module, layerDirections(layer));
    // A coordinator's broker lives in the same process: let it speak between two decompositions.
    await setImmediate();
  }
  const ranks =
    isCut && config.allocation === 'spectral' ? ranksBySpectrum(directions, lora, wanted) : wanted;
  const scaleOf = layerScales(config);
  const layers = new Map<string, LoraLayer>();
  let [energy, keptEnergy] = [0, 0];
  for (const [module, layer] of lora) {
    const r = ranks.get(module)!;
    if (layer.r === r) {
      const own = factorInnerProduct(layer, layer);
      energy += own;
      keptEnergy += own;
      layers.set(module, layer);
    } else if (layer.r < r) {
      layers.set(module, freshLayer(config, layer, r));
    } else {
      const scale = scaleOf(module, r);
      const cut = directions.get(module)!.cut(r, scale);
      energy += cut.energy;
      keptEnergy += cut.keptEnergy;
      layers.set(module, { module, r, scale, a: cut.a, b: cut.b });
    }
  }
  const energyKept = energy === 0 ? 1 : Math.min(1, keptEnergy / energy);
  return { ...merged, state: { ...merged.state, lora: layers }, energyKept };
}

function ranksBySpectrum(
  directions: ReadonlyMap<string, LayerDirections>,
  lora: ReadonlyMap<string, LoraLayer>,
  wanted: ReadonlyMap<string, number>,
): ReadonlyMap<string, number> {
  // Where nothing was learnt yet no layer stands out.
  if ([...directions.values()].every(({ energy }) => energy === 0)) return wanted;
  const sizes = new Map([...directions].map(([module, found]) => [module, found.sizes]));
  const limits = new Map([...lora].map(([module, { r }]) => [module, r]));
  const budget = [...wanted.values()].reduce((sum, rank) => sum + rank, 0);
  return spectralRanks(sizes, budget, limits);
}

/** The first drawn rows and B zero, for a layer that had no factors. */
function freshLayer(config: AggregateRound['config'], layer: LoraLayer, r: number): LoraLayer {
  const { module, b } = layer;
  const rows = drawnRowsOf(config, layer);
  const [, ...inDims] = rows.dims;
  const [out = 0, , ...bTail] = b.dims;
  const a = floatTensor([r, ...inDims], rows.data.slice(0, r * elementCount(inDims)));
  return { module, r, scale: layerScales(config)(module, r), a, b: floatTensor([out, r, ...bTail]) };
}
