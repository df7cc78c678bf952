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
import { baseline } from './baseline.ts';
import type { Strategy } from './strategy.ts';

export const floraStack: Strategy = {
  ...baseline({ mode: 'lora' }, { merges: 'products', linear: false, siteRanks: true }),
  name: 'flora-stack',
  rules: [
    {
      option: { setting: 'serverOptimiser.kind', values: 'momentum' },
      with: { setting: 'strategy', values: 'flora-stack' },
      why: "each round's stack becomes part of the model and new factors begin, so there is nothing to carry over",
      instead: 'Choose the server optimiser "none", or the strategy "flexlora".',
      refuses: ({ serverOptimiser }) => serverOptimiser.kind === 'momentum',
    },
  ],
  aggregateTrain: (round) => aggregate(round, stackedLayers, 'products'),
  frozenAfter: () => 'stacked factors',
};
