/** A round's updates as they enter the merge: checked, weighed, clipped and chosen. */
import { setImmediate } from 'node:timers/promises';
import type { ModelState } from '../../lora/model-state.ts';
import { checkAgainstGlobal } from '../check-update.ts';
import { type ChangeOptions, clipChange } from '../privacy/change.ts';
import { mergedChangeNorm, scaleMergedChange, squaredDistances } from '../robust/distances.ts';
import { multiKrum, normBound } from '../robust/select.ts';
import type { AggregateRound, Exclusion, StrategyTraits } from '../strategy.ts';
import { onBehalfOf } from '../unmergeable.ts';
import { sharesAmong, sharesOf } from './shares.ts';

export interface WeighedUpdate {
  siteId: string;
  /** w_k; all of a round's add up to 1. */
  share: number;
  state: ModelState;
}

export interface WeighedUpdates {
  /** Sites left out by multi-Krum or scaled down by a norm bound. */
  exclusions: readonly Exclusion[];
  /** Number of updates that are merged. */
  sites: number;
  /** One at a time, in the order of the round's sites; can be read more than once. */
  read(): AsyncGenerator<WeighedUpdate>;
}

/** How changes are measured in this round. */
export function changeOptions({ plan, config, base }: AggregateRound): ChangeOptions {
  return { plan, config, baseWeights: base.weights };
}

/**
 * Applies what looks at single sites, in this order: shares, clipping by the coordinator (privacy), robust rules that
 * choose or scale whole updates. A norm bound and multi-Krum read the updates once more than a plain mean does;
 * multi-Krum holds all of them at once for its distances.
 * @throws AppError UPDATE_REJECTED | QUORUM_NOT_REACHED
 */
export async function weighUpdates(
  round: AggregateRound,
  merges: StrategyTraits['merges'],
): Promise<WeighedUpdates> {
  const { config, global, updates } = round;
  const options = { ...changeOptions(round), merges };
  const shares = sharesOf(config, updates.sites);
  const clipNorm = config.privacy?.at === 'coordinator' ? config.privacy.clipNorm : null;

  async function* read(): AsyncGenerator<WeighedUpdate> {
    for (const { siteId } of updates.sites) {
      const state = await onBehalfOf(siteId, async () => {
        const sent = await updates.read(siteId);
        // Lets a broker in the same process speak between two updates.
        await setImmediate();
        checkAgainstGlobal(sent, global);
        return clipNorm === null ? sent : clipChange(sent, global, { ...options, clipNorm }).state;
      });
      yield { siteId, share: shares.get(siteId)!, state };
    }
  }

  const { robust } = config;
  if (robust.rule === 'norm-bound') {
    const norms = new Map<string, number>();
    for await (const { siteId, state } of read()) norms.set(siteId, mergedChangeNorm(state, global, options));
    const { factors, exclusions } = normBound(norms, robust.factor);
    const scaled = (update: WeighedUpdate) => {
      const state = scaleMergedChange(update.state, global, factors.get(update.siteId)!, options);
      return { ...update, state };
    };
    return { exclusions, sites: shares.size, read: () => mapped(read(), scaled) };
  }
  if (robust.rule === 'multi-krum') {
    const all: WeighedUpdate[] = [];
    for await (const update of read()) all.push(update);
    const distances = await squaredDistances(
      all.map(({ state }) => state),
      options,
    );
    const ids = all.map(({ siteId }) => siteId);
    const { selected, exclusions } = multiKrum(ids, distances, robust.byzantine);
    const chosen = sharesAmong(shares, new Set(selected));
    const keep = (update: WeighedUpdate) => {
      const share = chosen.get(update.siteId);
      return share === undefined ? null : { ...update, share };
    };
    return { exclusions, sites: chosen.size, read: () => mapped(all, keep) };
  }
  return { exclusions: [], sites: shares.size, read };
}

/** Each update changed, or left out where that gives null. */
async function* mapped(
  updates: Iterable<WeighedUpdate> | AsyncIterable<WeighedUpdate>,
  change: (update: WeighedUpdate) => WeighedUpdate | null,
): AsyncGenerator<WeighedUpdate> {
  for await (const update of updates) {
    const changed = change(update);
    if (changed !== null) yield changed;
  }
}
