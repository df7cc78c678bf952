/**
 * Everything that is merged value by value: head, base weights and, for rules that average factors, the factors.
 * Merge, then noise of the coordinator, then the server optimiser.
 */
import { isFactorName, type ModelState, tensorsOf, withTensors } from '../../lora/model-state.ts';
import type { FloatTensor } from '../../shared/tensor.ts';
import { rejected } from '../check-update.ts';
import { noiseOfMean } from '../privacy/change.ts';
import { createCryptographicNoise } from '../privacy/gaussian-noise.ts';
import { combineAllRobustly } from '../robust/combine.ts';
import { applyServerOptimiser } from '../server-optimiser.ts';
import { startOf } from '../site-rank.ts';
import type { AggregateRound, ServerMemory } from '../strategy.ts';
import { sentParts } from '../what-travels.ts';
import { createTensorMean, type NamedTensors } from './tensor-mean.ts';
import type { WeighedUpdate } from './weighed-updates.ts';

export interface ValueMerge {
  /** @throws AppError UPDATE_REJECTED for a layer of another rank or scale than the global one, where factors count */
  add(update: WeighedUpdate): void;
  /** Of the changes of head, base weights and other values that count for drift. */
  drift(): { squares: number; meanSquared: number };
  /** The global state with the merged values in it. @param sites number of updates that were added */
  finish(sites: number): { state: ModelState; memory: ServerMemory | null };
}

/**
 * @param withFactors whether the layers' factors are merged value by value, too; otherwise layers stay as they are.
 *   The median and the trimmed mean hold all updates of a round at once; the mean holds one.
 */
export function createValueMerge(round: AggregateRound, withFactors: boolean): ValueMerge {
  const { config, global, base } = round;
  const { robust } = config;
  const mean = createTensorMean();
  const all: NamedTensors[] = [];
  let squares = 0;
  /** The state that the round started from, with base weights where the updates have some. */
  let start = global;
  let startValues: NamedTensors = new Map();

  const sent = sentParts(round);
  const parts = withFactors ? sent : { ...sent, a: false, b: false };
  /** Sites may leave out layers that have no factors yet. */
  const valuesOf = (state: ModelState) => {
    const lora = new Map([...state.lora].filter(([module]) => global.lora.get(module)!.r > 0));
    return tensorsOf({ ...state, lora }, parts);
  };

  return {
    add({ share, state }) {
      if (withFactors) requireRanks(state, global);
      if (mean.toPart().weight === 0) {
        // A global state of an older release may carry base weights below its factors: they stay.
        const trained = startOf({ ...state, lora: new Map() }, global, base.weights).base;
        start = { ...global, base: new Map([...global.base, ...trained]) };
        startValues = valuesOf({ ...start, base: trained });
      }
      const values = valuesOf(state);
      mean.add(values, share);
      for (const [name, now] of drifting(values, round))
        squares += share * squaredChange(now, startValues.get(name));
      if (robust.rule === 'median' || robust.rule === 'trimmed-mean') all.push(values);
    },
    drift: () => ({ squares, meanSquared: mean.squaredDistance(drifting(startValues, round)) }),
    finish(sites) {
      const merged =
        robust.rule === 'median' || robust.rule === 'trimmed-mean'
          ? combineAllRobustly(robust, all)
          : mean.result();
      const noisy = withNoise(merged, round, sites);
      const step = { before: startValues, after: noisy, memory: round.memory };
      const { tensors, memory } = applyServerOptimiser(config.serverOptimiser, step);
      return { state: withTensors(start, tensors), memory };
    },
  };
}

/** Gaussian noise of the coordinator on the mean of clipped changes. */
function withNoise(
  merged: Map<string, FloatTensor>,
  { config: { privacy }, noise }: AggregateRound,
  sites: number,
): Map<string, FloatTensor> {
  if (privacy?.at !== 'coordinator') return merged;
  const standardDeviation = noiseOfMean(privacy, sites);
  const source = noise ?? createCryptographicNoise();
  return new Map(
    [...merged].map(([name, tensor]) => {
      const data = tensor.data.map((value) => value + standardDeviation * source.normal());
      return [name, { ...tensor, data }];
    }),
  );
}

/**
 * The values whose change counts for drift as it is. A layer counts by its product, which is measured elsewhere; the
 * products of a round that sends A alone are nowhere but at the sites, so there the values of A count.
 */
function drifting(values: NamedTensors, { plan }: AggregateRound): NamedTensors {
  if (plan.sends === 'a') return values;
  return new Map([...values].filter(([name]) => !isFactorName(name)));
}

function squaredChange(now: FloatTensor, before: FloatTensor | undefined): number {
  if (before === undefined) throw rejected('its tensors differ from those that the round started with');
  let sum = 0;
  for (let i = 0; i < now.data.length; i++) sum += (now.data[i]! - before.data[i]!) ** 2;
  return sum;
}

function requireRanks(state: ModelState, global: ModelState): void {
  for (const [module, { r, scale }] of state.lora) {
    const asked = global.lora.get(module)!;
    if (r === asked.r && scale === asked.scale) continue;
    throw rejected(`layer "${module}" must keep rank ${asked.r} and scale ${asked.scale}`);
  }
}
