/**
 * The SA-FedLoRA schedule (arXiv 2405.09394): an initiating stage, then an annealing stage of heating,
 * annealing proper and cooling. docs/method.md has the formulas.
 */
import type { RunConfig, ScheduleShape } from '../config/run-config.ts';
import type { RoundPlan, Stage } from './strategy.ts';

/** The settings that the schedule depends on. */
export type ScheduleConfig = Pick<
  RunConfig,
  | 'rounds'
  | 'initiatingRounds'
  | 'initiatingMode'
  | 'heatingRounds'
  | 'coolingRounds'
  | 'shape'
  | 'rMax'
  | 'rMin'
  | 'proximal'
  | 'finalLearningRateShare'
> & { training: Pick<RunConfig['training'], 'proximal'> };

/** Rounds between heating and cooling; never negative. */
function annealingRounds(config: ScheduleConfig): number {
  const fixed = config.initiatingRounds + config.heatingRounds + config.coolingRounds;
  return Math.max(0, config.rounds - fixed);
}

/** Stage of round `round` (0-based). */
export function stageAt(config: ScheduleConfig, round: number): Stage {
  const heating = config.initiatingRounds;
  const annealing = heating + config.heatingRounds;
  const cooling = annealing + annealingRounds(config);
  if (round < heating) return 'initiating';
  if (round < annealing) return 'heating';
  return round < cooling ? 'annealing' : 'cooling';
}

/**
 * Rank of the factors in round `round`: an integer in [rMin, rMax] that never grows from round to round,
 * or 0 in an initiating stage that trains base weights instead of factors.
 */
export function rankAt(config: ScheduleConfig, round: number): number {
  switch (stageAt(config, round)) {
    case 'initiating':
      return config.initiatingMode === 'lora' ? config.rMax : 0;
    case 'heating':
      return config.rMax;
    case 'cooling':
      return config.rMin;
    default: {
      const step = round - config.initiatingRounds - config.heatingRounds;
      const last = annealingRounds(config) - 1;
      return rankAtProgress(config.shape, config.rMax, config.rMin, last === 0 ? 1 : step / last);
    }
  }
}

/** The annealing formulas, rounded to the nearest integer. @param progress p in [0, 1] */
export function rankAtProgress(shape: ScheduleShape, rMax: number, rMin: number, progress: number): number {
  const left = {
    linear: 1 - progress,
    cosine: (1 + Math.cos(Math.PI * progress)) / 2,
    cubic: (1 - progress) ** 3,
  }[shape];
  return Math.round(rMin + (rMax - rMin) * left);
}

/** Cosine from 1 in the first round to `finalLearningRateShare` in the last. */
export function learningRateFactorAt(
  { rounds, finalLearningRateShare }: Pick<RunConfig, 'rounds' | 'finalLearningRateShare'>,
  round: number,
): number {
  const progress = rounds <= 1 ? 0 : round / (rounds - 1);
  return finalLearningRateShare + ((1 - finalLearningRateShare) * (1 + Math.cos(Math.PI * progress))) / 2;
}

/** What sites do in round `round` of SA-FedLoRA. */
export function scheduledRound(config: ScheduleConfig, round: number): RoundPlan {
  const stage = stageAt(config, round);
  const initiating = stage === 'initiating';
  return {
    round,
    stage,
    mode: initiating ? config.initiatingMode : 'lora',
    rank: rankAt(config, round),
    proximal: initiating ? config.proximal : config.training.proximal,
    learningRateFactor: learningRateFactorAt(config, round),
    trains: 'both',
    sends: 'both',
  };
}
