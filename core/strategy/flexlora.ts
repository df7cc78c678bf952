/**
 * Baseline: exact aggregation at the fixed rank r_max (FlexLoRA, Bai et al. 2024, arXiv 2402.11505).
 *
 *     ΔW = Σ w_k s_k B_k·A_k,   [U Σ V] = SVD(ΔW) cut to r_max;   site k gets the first r_k directions
 *
 * A site with an entry in `siteRanks` trains with the leading directions only; sites of different ranks are summed
 * alike. The paper decomposes the dense ΔW and splits it as B = U·Σ and A = Vᵀ; here nothing dense is formed while the
 * stack is smaller, and A's rows are as long as fresh ones or √Σ, whichever is longer.
 */
import { aggregate } from './aggregation/aggregate.ts';
import { exactLayers } from './aggregation/exact-layers.ts';
import { baseline } from './baseline.ts';
import type { Strategy } from './strategy.ts';

export const flexLora: Strategy = {
  ...baseline({ mode: 'lora' }, { merges: 'products', linear: false, siteRanks: true }),
  name: 'flexlora',
  aggregateTrain: (round) =>
    aggregate(round, (each) => exactLayers(each, { allocation: 'uniform', cutOff: 'drop' }), 'products'),
};
