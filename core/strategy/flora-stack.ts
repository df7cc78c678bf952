/**
 * Baseline: factors of all sites are stacked instead of averaged (FLoRA, Wang et al. 2024, arXiv 2409.05976).
 *
 *     A = [A_1; A_2; …],   B = [w_1 s_1 B_1 | w_2 s_2 B_2 | …],   B·A = Σ w_k s_k B_k·A_k
 *
 * Exact at any ranks, without a decomposition. The stack becomes part of the base model (a part of the run's
 * frozen base delta, which every site fetches once), and each round starts from fresh factors: what travels down grows with
 * the number of sites. A stack of a rank above min(out, in) travels as the matrix that it makes up. The fresh factors
 * are drawn by the coordinator and travel, too; in the paper each site draws its own.
 */
import { aggregate } from './aggregation/aggregate.ts';
import { stackedLayers } from './aggregation/stacked-layers.ts';
import { baselineRound } from './baseline-round.ts';
import type { Strategy } from './strategy.ts';

export const floraStack: Strategy = {
  name: 'flora-stack',
  adaptsLayers: true,
  configureTrain: (config, round) => baselineRound(config, round, { mode: 'lora' }),
  aggregateTrain: (round) => aggregate(round, stackedLayers),
};
