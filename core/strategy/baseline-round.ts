/** The plan of a round of the baselines: one stage, one rank, the same in every round. */

import type { RunConfig } from '../config/run-config.ts';
import { learningRateFactorAt } from './schedule.ts';
import type { RoundPlan } from './strategy.ts';

/** What sites do in round `round` (0-based); `plan` says what is special about the baseline. */
export function baselineRound(
  config: RunConfig,
  round: number,
  plan: Pick<RoundPlan, 'mode'> & Partial<RoundPlan>,
): RoundPlan {
  return {
    round,
    stage: 'baseline',
    rank: plan.mode === 'lora' ? config.rMax : 0,
    proximal: config.training.proximal,
    learningRateFactor: learningRateFactorAt(config, round),
    trains: 'both',
    sends: 'both',
    ...plan,
  };
}
