/** Baseline: a classification head on the frozen base model, averaged; what any adaptation has to beat. */
import { mergeUpdates, plainResult } from './averaging.ts';
import { learningRateFactorAt } from './schedule.ts';
import type { Strategy } from './strategy.ts';

export const headOnly: Strategy = {
  name: 'head-only',
  adaptsLayers: false,
  configureTrain: (config, round) => ({
    round,
    stage: 'baseline',
    mode: 'head',
    rank: 0,
    proximal: config.training.proximal,
    learningRateFactor: learningRateFactorAt(config, round),
    trains: 'both',
    sends: 'both',
  }),

  async aggregateTrain(round) {
    const { global } = round;
    const { head } = await mergeUpdates(round, () => {});
    return plainResult({ ...global, head });
  },
};
