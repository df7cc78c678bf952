/** What strategies have in common: the baselines' plan of one stage and one rank, averaging, evaluation. */
import type { RunConfig } from '../config/run-config.ts';
import { aggregateEvaluations } from '../evaluation/aggregate.ts';
import { aggregate } from './aggregation/aggregate.ts';
import { learningRateFactorAt } from './schedule.ts';
import type { EvaluatePlan, RoundPlan, Strategy, StrategyTraits } from './strategy.ts';
import { keepsParts } from './what-travels.ts';

type BaselinePlan = Pick<RoundPlan, 'mode'> & Partial<RoundPlan>;

/** What sites do in round `round` (0-based); `plan` says what is special about the baseline. */
export function baselineRound(config: RunConfig, round: number, plan: BaselinePlan): RoundPlan {
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

/** Each held-out image counts the same; a model is a site's own where some of what trains does not travel. */
export function heldOutEvaluation(
  configureTrain: Strategy['configureTrain'],
): Pick<Strategy, 'configureEvaluate' | 'aggregateEvaluate'> {
  return {
    configureEvaluate(config, round): EvaluatePlan {
      const { batchSize, head, arcScale } = config.training;
      const perSite = keepsParts(config, configureTrain(config, round));
      return { perSite, batchSize, head, arcScale, smallCell: config.smallCell };
    },
    aggregateEvaluate: (config, reports) =>
      aggregateEvaluations(reports, { classes: config.classes.length, cap: config.weightCap }),
  };
}

/** A baseline but for its merge. */
export function baseline(
  plan: BaselinePlan,
  traits: Pick<StrategyTraits, 'merges' | 'linear' | 'siteRanks'>,
): Omit<Strategy, 'name' | 'aggregateTrain'> {
  const configureTrain = (config: RunConfig, round: number) => baselineRound(config, round, plan);
  return {
    adaptsLayers: plan.mode === 'lora',
    traits: () => ({ ...traits, anneals: false, rotatesA: false }),
    configureTrain,
    frozenAfter: () => 'nothing',
    ...heldOutEvaluation(configureTrain),
  };
}

/** A baseline that averages what travels value by value. */
export function averaging(plan: BaselinePlan): Omit<Strategy, 'name'> {
  return {
    ...baseline(plan, { merges: 'values', linear: true, siteRanks: false }),
    aggregateTrain: (round) => aggregate(round, null),
  };
}
