/**
 * SA-FedLoRA (arXiv 2405.09394) with exact aggregation: ΔW = Σ w·s·B·A over the sites, cut to the next
 * round's rank. An initiating stage of mode `full` or `last-k` averages base weights; its state carries
 * layers of rank 0, which get fresh factors when the annealing stage begins.
 */
import { setImmediate } from 'node:timers/promises';
import { createFactorSum, rankLimit } from '../lora/factors.ts';
import type { LoraLayer } from '../lora/model-state.ts';
import { AppError } from '../shared/errors.ts';
import { mixSeed } from '../shared/random.ts';
import { mergeUpdates, plainResult } from './averaging.ts';
import { layerRanks, layerScales } from './lora-settings.ts';
import { scheduledRound } from './schedule.ts';
import type { Strategy } from './strategy.ts';

export const saFedLora: Strategy = {
  name: 'sa-fedlora',
  adaptsLayers: true,
  configureTrain: scheduledRound,

  async aggregateTrain(round) {
    const { config, global, next } = round;
    if (global.lora.size === 0) {
      throw new AppError('SHAPE_MISMATCH', 'The global state names no layers for LoRA factors.');
    }
    const sums = new Map(
      [...global.lora].map(([module, { a, b }]) => [module, createFactorSum(a.dims, b.dims)]),
    );
    const merged = await mergeUpdates(round, ({ examples, state }) => {
      for (const [module, layer] of state.lora) sums.get(module)!.add({ weight: examples, ...layer });
    });

    const rankOf = layerRanks(config, next.rank);
    const scaleOf = layerScales(config);
    const lora = new Map<string, LoraLayer>();
    let energy = 0;
    let keptEnergy = 0;
    for (const [module, sum] of sums) {
      // A coordinator's broker lives in the same process: let it speak between two decompositions.
      await setImmediate();
      const seed = mixSeed(config.seed, 'fresh', next.round, module);
      const { a, b } = global.lora.get(module)!;
      const scale = scaleOf(module, Math.min(rankOf(module), rankLimit(a.dims, b.dims)));
      const cut = sum.truncate(rankOf(module), scale, { seed, divisor: merged.examples });
      energy += cut.energy;
      keptEnergy += cut.keptEnergy;
      lora.set(module, { module, r: cut.a.dims[0]!, scale, a: cut.a, b: cut.b });
    }
    const energyKept = energy === 0 ? 1 : Math.min(1, keptEnergy / energy);
    return plainResult({ ...global, lora, head: merged.head, base: merged.base }, energyKept);
  },
};
