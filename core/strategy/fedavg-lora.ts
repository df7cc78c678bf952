/**
 * Baseline: fixed rank r_max, factors averaged apart (FedIT, Zhang et al. 2023, arXiv 2305.05644).
 *
 *     A ← Σ w_k A_k,   B ← Σ w_k B_k
 *
 * The mean of the Bs times the mean of the As is not the mean of the products: the cross terms B_j·A_k of different
 * sites come in, and products of the same site count w_k² instead of w_k. Exact aggregation does away with that error.
 */
import { averaging } from './baseline.ts';
import type { Strategy } from './strategy.ts';

export const fedAvgLora: Strategy = {
  ...averaging({ mode: 'lora' }),
  name: 'fedavg-lora',
};
