/**
 * Baseline: ranks by site; factors filled up with zeros and averaged apart, weighted by what they change (HetLoRA, Cho
 * et al. 2024, arXiv 2401.06432).
 *
 *     A ← Σ p_k [A_k; 0],   B ← Σ p_k [B_k | 0],   p_k = ‖s_k B_k·A_k‖ / Σ_j ‖s_j B_j·A_j‖   for each layer
 *
 * A site with an entry r_k in `siteRanks` trains with the first r_k rows of A and columns of B. As in the paper, p_k
 * takes the place of the number of images for the factors; head weights go by `weighting`. The paper's pruning of a
 * site's own rank (a penalty on its last directions, which are dropped when they shrink) is left out: ranks are what
 * the run's settings say, so that what travels is known beforehand.
 */
import { aggregate } from './aggregation/aggregate.ts';
import { paddedLayers } from './aggregation/padded-layers.ts';
import { baseline } from './baseline.ts';
import type { Strategy } from './strategy.ts';

export const hetLora: Strategy = {
  ...baseline({ mode: 'lora' }, { merges: 'values', linear: false, siteRanks: true }),
  name: 'hetlora',
  aggregateTrain: (round) => aggregate(round, paddedLayers),
};
