/**
 * Baseline: FedAvg with a proximal pull towards the global weights in every round (FedProx, Li et al. 2020, arXiv
 * 1812.06127):
 *
 *     minimise at each site  loss + (λ/2)·‖θ − θ_global‖²,   then θ ← Σ w_k θ_k
 *
 * λ is the run's `proximal`, μ in the paper. The paper also takes in sites that trained for less than they were asked
 * to; here a site that does not finish is absent from the round.
 */
import { averaging, baselineRound } from './baseline.ts';
import type { Strategy } from './strategy.ts';

export const fedProxFull: Strategy = {
  ...averaging({ mode: 'full' }),
  name: 'fedprox-full',
  rules: [
    {
      option: { setting: 'proximal', values: '0' },
      with: { setting: 'strategy', values: 'fedprox-full' },
      why: 'without its proximal term, this strategy is fedavg-full',
      instead: 'Set "proximal" above 0 (0.01, for instance), or choose the strategy "fedavg-full".',
      refuses: ({ proximal }) => proximal === 0,
    },
  ],
  configureTrain: (config, round) =>
    baselineRound(config, round, { mode: 'full', proximal: config.proximal }),
};
