/** Exact aggregation of layers: the sum of the sites' products, cut to the next round's ranks. */
import { setImmediate } from 'node:timers/promises';
import type { RunConfig } from '../../config/run-config.ts';
import type { Decomposition } from '../../lora/factor-sum.ts';
import type { LoraLayer } from '../../lora/model-state.ts';
import { AppError } from '../../shared/errors.ts';
import { mixSeed } from '../../shared/random.ts';
import { spectralLimit, spectralRanksFor } from '../allocation.ts';
import { layerRanks, layerScales } from '../lora-settings.ts';
import { previousLayer, productMomentum, rememberLayers } from '../server-optimiser.ts';
import type { AggregateRound, ServerMemory } from '../strategy.ts';
import type { LayerMerge, MergedLayers } from './aggregate.ts';
import type { ProductSums } from './product-sums.ts';

/**
 * ΔW = Σ w·s·B·A, cut to the best approximation of the next rank (docs/method.md). With `spectral` the ranks of all
 * layers together come from one budget; the sum of the ranks is the same as with `uniform`. With the cut-off `freeze`
 * the directions between a layer's next rank and the rank that it had become part of the frozen base delta.
 * @throws AppError SHAPE_MISMATCH when the global state names no layers; UPDATE_REJECTED when a sum is not finite
 */
export function exactLayers(
  round: AggregateRound,
  { allocation, cutOff }: Pick<RunConfig, 'allocation' | 'cutOff'>,
): LayerMerge {
  const { config, global, next } = round;
  if (global.lora.size === 0) {
    throw new AppError('SHAPE_MISMATCH', 'The global state names no layers for LoRA factors.');
  }
  const keptOf: KeptDirections = (module, rank) =>
    cutOff === 'freeze' ? Math.max(rank, global.lora.get(module)!.r) : rank;
  return {
    async finish(sums) {
      const momentum = await addMomentum(round, sums);
      const rankOf = layerRanks(config, next.rank);
      const wanted = new Map(
        [...global.lora.keys()].map((module) => [module, Math.min(rankOf(module), sums.limit(module))]),
      );
      const cuts =
        allocation === 'spectral'
          ? await spectralCuts(sums, wanted, { config, keptOf })
          : uniformCuts(sums, wanted, keptOf);
      const merged = await cutLayers(round, cuts, { divisor: momentum.divisor, keptOf });
      return momentum.memory === null ? merged : { ...merged, memory: momentum.memory };
    },
  };
}

/** How many directions of a layer stay in the model: the first `rank` go on training, the others freeze. */
type KeptDirections = (module: string, rank: number) => number;

interface Cut {
  module: string;
  /** Of the layer in the next round. */
  rank: number;
  decomposition: Decomposition;
}

/** One layer after another, so that only one decomposition is held. */
async function* uniformCuts(
  sums: ProductSums,
  wanted: ReadonlyMap<string, number>,
  keptOf: KeptDirections,
): AsyncGenerator<Cut> {
  for (const [module, rank] of wanted) {
    yield { module, rank, decomposition: await sums.decompose(module, keptOf(module, rank)) };
    // A coordinator's broker lives in the same process: let it speak between two decompositions.
    await setImmediate();
  }
}

/** The ranks of all layers are known only when all are decomposed. */
async function spectralCuts(
  sums: ProductSums,
  wanted: ReadonlyMap<string, number>,
  { config, keptOf }: { config: RunConfig; keptOf: KeptDirections },
): Promise<Cut[]> {
  const limits = new Map(
    [...wanted].map(([module, rank]) => [
      module,
      Math.min(sums.limit(module), keptOf(module, spectralLimit(config, rank))),
    ]),
  );
  const decompositions = new Map<string, Decomposition>();
  for (const [module, limit] of limits) {
    decompositions.set(module, await sums.decompose(module, limit));
    await setImmediate();
  }
  const sizes = new Map([...decompositions].map(([module, { sizes: found }]) => [module, found]));
  const ranks = spectralRanksFor(sizes, wanted, limits);
  return [...decompositions].map(([module, decomposition]) => ({
    module,
    rank: ranks.get(module) ?? 0,
    decomposition,
  }));
}

async function cutLayers(
  { config, next }: AggregateRound,
  cuts: Iterable<Cut> | AsyncIterable<Cut>,
  { divisor, keptOf }: { divisor: number; keptOf: KeptDirections },
): Promise<MergedLayers> {
  const scaleOf = layerScales(config);
  const lora = new Map<string, LoraLayer>();
  const frozen = new Map<string, LoraLayer>();
  let energy = 0;
  let keptEnergy = 0;
  for await (const { module, rank, decomposition } of cuts) {
    const seed = mixSeed(config.seed, 'fresh', next.round, module);
    const scale = scaleOf(module, rank);
    const cut = decomposition.cut(rank, scale, { seed, divisor });
    energy += cut.energy;
    keptEnergy += cut.keptEnergy;
    lora.set(module, { module, r: rank, scale, a: cut.a, b: cut.b });
    const kept = keptOf(module, rank);
    if (kept === rank) continue;
    const rest = decomposition.slice(rank, kept, divisor);
    keptEnergy += rest.energy;
    frozen.set(module, { module, r: kept - rank, scale: 1, a: rest.a, b: rest.b });
  }
  const energyKept = energy === 0 ? 1 : Math.min(1, keptEnergy / energy);
  return { lora, energyKept, ...(frozen.size === 0 ? {} : { frozenBaseDelta: frozen }) };
}

/** The server optimiser's momentum joins the sum as low-rank terms of its own. */
async function addMomentum(
  { config: { serverOptimiser }, global, memory }: AggregateRound,
  sums: ProductSums,
): Promise<{ divisor: number; memory: ServerMemory | null }> {
  if (serverOptimiser.kind !== 'momentum') return { divisor: 1, memory: null };
  // Drift is that of the sites' updates alone.
  await sums.energy();
  await sums.alongStart();
  let divisor = 1;
  for (const [module, layer] of global.lora) {
    const step = productMomentum(serverOptimiser, 1, layer, previousLayer(memory, module));
    divisor = step.divisor;
    for (const part of step.parts) await sums.sum(module).add(part);
  }
  return { divisor, memory: rememberLayers(global.lora) };
}
