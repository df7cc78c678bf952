/** Baseline: a classification head on the frozen base model, averaged; what any adaptation has to beat. */
import { aggregate } from './aggregation/aggregate.ts';
import { baselineRound } from './baseline-round.ts';
import type { Strategy } from './strategy.ts';

export const headOnly: Strategy = {
  name: 'head-only',
  adaptsLayers: false,
  configureTrain: (config, round) => baselineRound(config, round, { mode: 'head' }),
  aggregateTrain: (round) => aggregate(round, null),
};
