/** What leaves a site after training, and what stays: clipping and noise, then coding. No input or output here. */
import { rankLimit } from '../lora/factor-sum.ts';
import type { ModelState } from '../lora/model-state.ts';
import { stateShape } from '../lora/state-file.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import { layerRanks } from '../strategy/lora-settings.ts';
import { protectUpdate } from '../strategy/privacy/change.ts';
import type { GaussianSource } from '../strategy/privacy/gaussian-noise.ts';
import type { RoundPlan, RunConfig } from '../strategy/strategy.ts';
import { encodeUpdate, updateValueCount, type WireBase } from '../strategy/wire/wire.ts';
import { encodeLocalParameters, keptParts, type LocalParameters, takeKept } from './local-parameters.ts';

export interface UpdateOptions {
  config: RunConfig;
  plan: RoundPlan;
  base: WireBase;
  /** The decoded global state with which the round started. */
  start: ModelState;
  trained: ModelState;
  /** What the site kept from its last round. */
  own: LocalParameters | null;
  /** Of the noise at the site, where the run asks for it. */
  noise: GaussianSource;
}

export interface MadeUpdate {
  bytes: Uint8Array;
  /** Model values in it. */
  values: number;
  /** What the site keeps for its next round, as a file; null when nothing. */
  memory: Uint8Array | null;
  /** What clipping did, where the run asks for it at the site. */
  clipped: { norm: number; factor: number } | null;
}

/** Whether an update is the very file that the trainer wrote. */
export function leavesUnchanged({ config, plan }: Pick<UpdateOptions, 'config' | 'plan'>): boolean {
  const { wire, localHead, privacy } = config;
  return wire.up === 'fp32' && plan.sends === 'both' && !localHead && privacy?.at !== 'site';
}

/**
 * Refuses to let more leave than the plan of the round says: the ranks are those of the state that the coordinator sent.
 * Their sum counts, because the allocation "spectral" moves directions from layer to layer.
 * @throws AppError CONFIG_INVALID
 */
export function requirePlannedRanks({ lora }: ModelState, config: RunConfig, { rank }: RoundPlan): void {
  const rankOf = layerRanks(config, rank);
  let planned = 0;
  let found = 0;
  for (const [module, { r, a, b }] of lora) {
    planned += Math.min(rankOf(module), rankLimit(a.dims, b.dims));
    found += r;
  }
  if (found <= planned) return;
  throw new AppError(
    'CONFIG_INVALID',
    `The shared model of this round has factors of ${plural(found, 'direction')} in all; its plan allows ${planned}.`,
    { action: 'Ask the coordinator; nothing was sent.' },
  );
}

/**
 * Noise is added before rounding, so that the file and the rounding's leftovers are both made of protected values only.
 * @throws AppError TRAINING_FAILED | UPDATE_REJECTED when the trained values are not finite
 */
export function makeUpdate(options: UpdateOptions): MadeUpdate {
  const { config, plan, base, start, trained, own, noise } = options;
  const { privacy } = config;
  const protectedState =
    privacy?.at === 'site'
      ? protectUpdate(trained, start, { config, plan, baseWeights: base.weights, privacy, random: noise })
      : null;
  const state = protectedState?.state ?? trained;
  const context = { config, plan, base };
  const { bytes, residual } = encodeUpdate({
    ...context,
    start,
    trained: state,
    residual: own?.residual ?? null,
  });
  return {
    bytes,
    values: updateValueCount(stateShape(state), context),
    memory: encodeLocalParameters({ kept: takeKept(trained, keptParts(config, plan)), residual }, start),
    clipped: protectedState && { norm: protectedState.norm, factor: protectedState.factor },
  };
}
