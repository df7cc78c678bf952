/**
 * SA-FedLoRA (arXiv 2405.09394): ranks fall over the rounds as a temperature does in annealing, with exact aggregation.
 *
 *     initiating  full | lora | last-k, with a proximal pull (λ = `proximal`)
 *     heating     ΔW = Σ w_k s_k B_k·A_k   at r_max
 *     annealing   the same, cut from round to round: linear | cosine | cubic
 *     cooling     at r_min
 *
 * What a cut takes off is dropped, as in the paper, or frozen (`cutOff`): then ΔW = Σ frozen + s·B·A loses nothing that
 * a fixed rank r_max would have kept, while what trains and travels shrinks all the same.
 *
 * With `freezeA` the factors A stay as they were drawn, as in ffa-lora, but for a rotation within the space of their rows when
 * the rank falls: then B alone trains and travels, and the mean of its values is the exact sum.
 *
 * The budget r·L of a round is spread over the L layers evenly (`uniform`), or goes to the largest singular values of
 * all layers (`spectral`). The paper averages factors; here products are summed, so that cutting to the next rank is
 * the best approximation there is (docs/method.md).
 *
 * An initiating stage of base weights averages those. When it ends they become part of the base model, once, and
 * later states hold nothing but factors and a head.
 */
import type { RunConfig } from '../config/run-config.ts';
import { aggregate, frozenBaseOf } from './aggregation/aggregate.ts';
import { exactLayers } from './aggregation/exact-layers.ts';
import { rotatedLayers } from './aggregation/rotated-layers.ts';
import { heldOutEvaluation } from './baseline.ts';
import { scheduledRound } from './schedule.ts';
import type { AggregateResult, AggregateRound, CombinationRule, RoundPlan, Strategy } from './strategy.ts';

const rules: readonly CombinationRule[] = [
  {
    option: { setting: 'serverOptimiser.kind', values: 'momentum' },
    with: { setting: 'cutOff', values: 'freeze' },
    why: 'the momentum would see frozen directions as a change of the model and push it back',
    instead: 'Choose the server optimiser "none", or set "cutOff" to "drop".',
    refuses: ({ serverOptimiser, cutOff }) => serverOptimiser.kind === 'momentum' && cutOff === 'freeze',
  },
  {
    option: { setting: 'freezeA', values: 'true' },
    with: { setting: 'cutOff', values: 'freeze' },
    why: 'what is frozen would need factors A of its own, which do not travel',
    instead: 'Set "cutOff" to "drop", or "freezeA" to false.',
    refuses: ({ freezeA, cutOff }) => freezeA && cutOff === 'freeze',
  },
  {
    option: { setting: 'freezeA', values: 'true' },
    with: { setting: 'siteRanks', values: 'any' },
    why: 'the mean needs factors B of one shape',
    instead: 'Remove "siteRanks", or set "freezeA" to false.',
    refuses: ({ freezeA, siteRanks }) => freezeA && Object.keys(siteRanks).length > 0,
  },
  {
    option: { setting: 'serverOptimiser.kind', values: 'momentum, adam' },
    with: { setting: 'freezeA', values: 'true' },
    why: 'moments of individual values lose their meaning whenever the factors rotate, as they do when the rank falls',
    instead: 'Choose the server optimiser "none", or set "freezeA" to false.',
    refuses: ({ freezeA, serverOptimiser }) => freezeA && serverOptimiser.kind !== 'none',
  },
  {
    option: { setting: 'lastK', values: '0' },
    with: { setting: 'initiatingMode', values: 'last-k' },
    why: 'no block would train, and the sites would have nothing to send in the initiating stage',
    instead: 'Set "lastK" to 1 or more, or choose another "initiatingMode".',
    refuses: ({ initiatingMode, initiatingRounds, lastK }) =>
      initiatingMode === 'last-k' && initiatingRounds > 0 && lastK === 0,
  },
];

function configureTrain(config: RunConfig, round: number): RoundPlan {
  const plan = scheduledRound(config, round);
  return config.freezeA && plan.mode === 'lora' ? { ...plan, trains: 'b', sends: 'b' } : plan;
}

/** When an initiating stage ends, its base weights become part of the base model. */
const endsInitiating = (plan: RoundPlan, next: RoundPlan) => plan.mode !== 'lora' && next.mode === 'lora';

export const saFedLora: Strategy = {
  name: 'sa-fedlora',
  adaptsLayers: true,
  rules,
  traits: ({ freezeA }) => ({
    merges: freezeA ? 'values' : 'products',
    linear: freezeA,
    siteRanks: !freezeA,
    anneals: true,
    rotatesA: freezeA,
  }),
  configureTrain,

  async aggregateTrain(round) {
    const { config, plan, next } = round;
    const result = config.freezeA
      ? await rotatedLayers(round, await aggregate(round, null))
      : await aggregate(round, (each) => exactLayers(each, config), 'products');
    return endsInitiating(plan, next) ? founded(round, result) : result;
  },

  frozenAfter({ cutOff, allocation }, plan, next) {
    if (endsInitiating(plan, next)) return 'base weights';
    const cuts = next.rank < plan.rank || allocation === 'spectral';
    return cutOff === 'freeze' && plan.mode === 'lora' && cuts ? 'cut directions' : 'nothing';
  },

  ...heldOutEvaluation(configureTrain),
};

/** Base weights leave the state for the frozen base delta, and their moments the memory: they do not train again. */
function founded({ global }: AggregateRound, result: AggregateResult): AggregateResult {
  const { state, memory } = result;
  const isMoment = (name: string) => {
    const [, , weight] = /^(\w+)\.base\.(.+)$/.exec(name) ?? [];
    return weight !== undefined && state.base.has(weight);
  };
  const kept = memory === null ? null : new Map([...memory].filter(([name]) => !isMoment(name)));
  return {
    ...result,
    state: { ...state, base: new Map() },
    frozenBaseDelta: frozenBaseOf(global, { base: state.base }),
    memory: kept,
  };
}
