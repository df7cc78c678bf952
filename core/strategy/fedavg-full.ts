/**
 * Baseline: federated averaging of all base weights and the head (FedAvg, McMahan et al. 2017, arXiv 1602.05629).
 *
 *     θ ← Σ w_k θ_k
 *
 * Here AdamW trains at the sites instead of plain gradient steps; running means and variances of batch normalisation
 * are averaged like weights.
 */
import { averaging } from './baseline.ts';
import type { Strategy } from './strategy.ts';

export const fedAvgFull: Strategy = {
  ...averaging({ mode: 'full' }),
  name: 'fedavg-full',
};
