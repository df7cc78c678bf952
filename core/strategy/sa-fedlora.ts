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
import { aggregate, frozenBaseOf } from './aggregation/aggregate.ts';
import { exactLayers } from './aggregation/exact-layers.ts';
import { rotatedLayers } from './aggregation/rotated-layers.ts';
import { fixesA } from './fixed-factor.ts';
import { scheduledRound } from './schedule.ts';
import type { AggregateResult, AggregateRound, Strategy } from './strategy.ts';

export const saFedLora: Strategy = {
  name: 'sa-fedlora',
  adaptsLayers: true,

  configureTrain(config, round) {
    const plan = scheduledRound(config, round);
    return fixesA(config) && plan.mode === 'lora' ? { ...plan, trains: 'b', sends: 'b' } : plan;
  },

  async aggregateTrain(round) {
    const result = fixesA(round.config)
      ? await rotatedLayers(round, await aggregate(round, null))
      : await aggregate(round, (each) => exactLayers(each, each.config));
    return round.plan.mode !== 'lora' && round.next.mode === 'lora' ? founded(round, result) : result;
  },
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
