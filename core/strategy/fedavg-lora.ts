/**
 * Baseline: fixed rank r_max, factors averaged apart as in FedIT (arXiv 2305.05644). The mean of the Bs
 * times the mean of the As is not the mean of the products; exact aggregation does away with that error.
 */
import type { LoraLayer } from '../lora/model-state.ts';
import { createTensorMean, mergeUpdates, plainResult } from './averaging.ts';
import { rejected } from './check-update.ts';
import { learningRateFactorAt } from './schedule.ts';
import type { Strategy } from './strategy.ts';

export const fedAvgLora: Strategy = {
  name: 'fedavg-lora',
  adaptsLayers: true,
  configureTrain: (config, round) => ({
    round,
    stage: 'baseline',
    mode: 'lora',
    rank: config.rMax,
    proximal: config.training.proximal,
    learningRateFactor: learningRateFactorAt(config, round),
    trains: 'both',
    sends: 'both',
  }),

  async aggregateTrain(round) {
    const { global } = round;
    const means = new Map([...global.lora.keys()].map((module) => [module, createTensorMean()]));
    const merged = await mergeUpdates(round, ({ examples, state }) => {
      for (const [module, { r, scale, a, b }] of state.lora) {
        const asked = global.lora.get(module)!;
        if (r !== asked.r || scale !== asked.scale) {
          throw rejected(`layer "${module}" must keep rank ${asked.r} and scale ${asked.scale}`);
        }
        means.get(module)!.add(new Map([['a', a]]).set('b', b), examples);
      }
    });
    const lora = new Map<string, LoraLayer>();
    for (const [module, layer] of global.lora) {
      const mean = means.get(module)!.result();
      lora.set(module, { ...layer, a: mean.get('a')!, b: mean.get('b')! });
    }
    return plainResult({ ...global, lora, head: merged.head, base: merged.base });
  },
};
