/** What all strategies share: a stream of checked updates, weighted means, evaluation counts. */
import { setImmediate } from 'node:timers/promises';
import type { ModelState } from '../lora/model-state.ts';
import { AppError } from '../shared/errors.ts';
import { type FloatTensor, floatTensor, sameDims } from '../shared/tensor.ts';
import { checkAgainstGlobal, rejected } from './check-update.ts';
import type { AggregateResult, AggregateRound, SiteUpdate } from './strategy.ts';

/** Weighted mean of named tensors, in float64. */
export interface TensorMean {
  /** @throws AppError UPDATE_REJECTED when names or shapes differ from those added before */
  add(tensors: ReadonlyMap<string, FloatTensor>, weight: number): void;
  /** Empty when nothing, or nothing but empty maps, was added. */
  result(): Map<string, FloatTensor>;
}

export function createTensorMean(): TensorMean {
  const sums = new Map<string, { dims: readonly number[]; sum: Float64Array }>();
  let total = 0;
  return {
    add(tensors, weight) {
      const isFirst = total === 0;
      if (!isFirst && tensors.size !== sums.size)
        throw rejected('it holds other tensors than those of other sites');
      for (const [name, { dims, data }] of tensors) {
        if (isFirst) sums.set(name, { dims, sum: new Float64Array(data.length) });
        const entry = sums.get(name);
        if (entry === undefined || !sameDims(entry.dims, dims)) {
          throw rejected(`"${name}" differs in name or shape from those of other sites`);
        }
        for (let i = 0; i < data.length; i++) entry.sum[i]! += weight * data[i]!;
      }
      total += weight;
    },
    result() {
      return new Map(
        [...sums].map(([name, { dims, sum }]) => [
          name,
          floatTensor(
            dims,
            Float32Array.from(sum, (value) => value / total),
          ),
        ]),
      );
    },
  };
}

export interface MergedUpdates {
  head: Map<string, FloatTensor>;
  /** Mean of the base weights that were sent, over those of the global state. */
  base: ReadonlyMap<string, FloatTensor>;
  /** Sum of the weights. */
  examples: number;
}

/**
 * Takes the updates one by one, so that memory does not grow with their number: checks each, adds its head
 * and base weights to weighted means (weight: its number of examples) and hands it to `visit`.
 * @throws AppError UPDATE_REJECTED; QUORUM_NOT_REACHED when there is none
 */
export async function mergeUpdates(
  { global, updates }: Pick<AggregateRound, 'global' | 'updates'>,
  visit: (update: SiteUpdate) => void,
): Promise<MergedUpdates> {
  const head = createTensorMean();
  const base = createTensorMean();
  let examples = 0;
  for (const { siteId, examples: pictures } of updates.sites) {
    const update: SiteUpdate = { siteId, examples: pictures, state: await updates.read(siteId) };
    // Lets a broker in the same process speak between two updates.
    await setImmediate();
    if (!(Number.isFinite(update.examples) && update.examples > 0)) {
      throw rejected('it does not say on how many pictures it was trained');
    }
    checkAgainstGlobal(update.state, global);
    head.add(update.state.head, update.examples);
    base.add(update.state.base, update.examples);
    visit(update);
    examples += update.examples;
  }
  if (examples === 0) throw new AppError('QUORUM_NOT_REACHED', 'No update arrived in this round.');
  return { head: head.result(), base: new Map([...global.base, ...base.result()]), examples };
}

/** A result of plain averaging: nothing is cut, kept back or left out. */
export function plainResult(state: ModelState, energyKept = 1): AggregateResult {
  return {
    state,
    foundation: null,
    memory: null,
    energyKept,
    drift: { spread: 0, share: 0 },
    exclusions: [],
  };
}
