/** Baseline: federated averaging of all base weights and the head (McMahan et al., arXiv 1602.05629). */
import { aggregateEvaluations, mergeUpdates } from './averaging.ts';
import { learningRateFactorAt } from './schedule.ts';
import type { Strategy } from './strategy.ts';

export const fedAvgFull: Strategy = {
  name: 'fedavg-full',
  configureTrain: (config, round) => ({
    round,
    stage: 'baseline',
    mode: 'full',
    rank: 0,
    proximal: config.training.proximal,
    learningRateFactor: learningRateFactorAt(config, round),
  }),
  aggregateEvaluate: aggregateEvaluations,

  async aggregateTrain(_config, global, updates) {
    const { head, base } = await mergeUpdates(global, updates, () => {});
    return { state: { ...global, head, base }, energyKept: 1 };
  },
};
