/** Baseline: a classification head on the frozen base model, averaged; what any adaptation has to beat. */
import { aggregateEvaluations, mergeUpdates } from './averaging.ts';
import { learningRateFactorAt } from './schedule.ts';
import type { Strategy } from './strategy.ts';

export const headOnly: Strategy = {
  name: 'head-only',
  configureTrain: (config, round) => ({
    round,
    stage: 'baseline',
    mode: 'head',
    rank: 0,
    proximal: config.training.proximal,
    learningRateFactor: learningRateFactorAt(config, round),
  }),
  aggregateEvaluate: aggregateEvaluations,

  async aggregateTrain(_config, global, updates) {
    const { head } = await mergeUpdates(global, updates, () => {});
    return { state: { ...global, head }, energyKept: 1 };
  },
};
