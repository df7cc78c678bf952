/** Baseline: federated averaging of all base weights and the head (McMahan et al., arXiv 1602.05629). */
import { mergeUpdates, plainResult } from './averaging.ts';
import { learningRateFactorAt } from './schedule.ts';
import type { Strategy } from './strategy.ts';

export const fedAvgFull: Strategy = {
  name: 'fedavg-full',
  adaptsLayers: false,
  configureTrain: (config, round) => ({
    round,
    stage: 'baseline',
    mode: 'full',
    rank: 0,
    proximal: config.training.proximal,
    learningRateFactor: learningRateFactorAt(config, round),
    trains: 'both',
    sends: 'both',
  }),

  async aggregateTrain(round) {
    const { global } = round;
    const { head, base } = await mergeUpdates(round, () => {});
    return plainResult({ ...global, head, base });
  },
};
