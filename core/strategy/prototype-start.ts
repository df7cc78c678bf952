/**
 * Any strategy with a round before its own in which the head's start is made (`headStart: prototypes`). To everything else it
 * is a round like any other: with members, cohort, consent, deadline, quorum, receipts, protection and a contract.
 */
import { preparingRounds, type RunConfig } from '../config/run-config.ts';
import { aggregate } from './aggregation/aggregate.ts';
import { headFromSums } from './prototypes.ts';
import type { AggregateResult, AggregateRound, RoundPlan, Strategy } from './strategy.ts';

export const isPrototypeRound = ({ mode }: Pick<RoundPlan, 'mode'>): boolean => mode === 'prototypes';

/** The rounds that are left to the strategy itself. */
const ownRounds = (config: RunConfig): RunConfig => ({
  ...config,
  rounds: Math.max(1, config.rounds - preparingRounds(config)),
});

export function startingFromPrototypes(strategy: Strategy): Strategy {
  function configureTrain(config: RunConfig, round: number): RoundPlan {
    const before = preparingRounds(config);
    if (before === 0) return strategy.configureTrain(config, round);
    const plan = strategy.configureTrain(ownRounds(config), Math.max(0, round - before));
    if (round >= before) return { ...plan, round };
    // The state has the layers of the first round of training already; neither they nor base weights travel.
    const nothing = { trains: 'none', sends: 'none' } as const;
    return { ...plan, round, mode: 'prototypes', proximal: 0, learningRateFactor: 1, ...nothing };
  }
  return {
    ...strategy,
    configureTrain,
    aggregateTrain: (round) =>
      isPrototypeRound(round.plan) ? mergePrototypes(round) : strategy.aggregateTrain(round),
    frozenAfter: (config, plan, next) =>
      isPrototypeRound(plan) ? 'nothing' : strategy.frozenAfter(config, plan, next),
    configureEvaluate(config, round) {
      const before = preparingRounds(config);
      return strategy.configureEvaluate(
        before === 0 ? config : ownRounds(config),
        Math.max(0, round - before),
      );
    },
  };
}

/**
 * The sites' sums are merged as the heads of any round are: with the same weights and caps, robust rule, clipping and noise.
 * A server optimiser has nothing to do with them.
 */
async function mergePrototypes(round: AggregateRound): Promise<AggregateResult> {
  const config: RunConfig = { ...round.config, serverOptimiser: { kind: 'none' } };
  const merged = await aggregate({ ...round, config, memory: null }, null);
  const head = headFromSums(merged.state.head, config, round.base);
  return { ...merged, state: { ...round.global, head }, memory: null };
}
