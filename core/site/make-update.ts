/** What leaves a site after training, and what stays: clipping and noise, then coding. */
import type { RunConfig } from '../config/run-config.ts';
import type { ModelState } from '../lora/model-state.ts';
import { decodeModelState } from '../lora/state-file.ts';
import { protectUpdate } from '../strategy/privacy/change.ts';
import type { GaussianSource } from '../strategy/privacy/gaussian-noise.ts';
import type { RoundPlan } from '../strategy/strategy.ts';
import { localParts } from '../strategy/what-travels.ts';
import {
  encodeUpdate,
  fileValueCount,
  isPlainFile,
  updateForm,
  type WireBase,
} from '../strategy/wire/wire.ts';
import { encodeLocalParameters, type LocalParameters, takeKept } from './local-parameters.ts';

export interface UpdateOptions {
  config: RunConfig;
  plan: RoundPlan;
  /** What the trainer wrote. */
  file: Uint8Array;
  /** Of the noise at the site, where the run asks for it. */
  noise: GaussianSource;
  /** Asked only where the file is not what leaves. */
  start(): Promise<UpdateStart>;
}

/** What the round started from. */
export interface UpdateStart {
  base: WireBase;
  /** The decoded global state. */
  start: ModelState;
  /** What the site kept from its last round. */
  own: LocalParameters | null;
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
  return isPlainFile(updateForm({ config, plan })) && config.privacy?.at !== 'site';
}

/**
 * Noise is added before rounding, so that the file and the rounding's leftovers are both made of protected values only.
 * @throws AppError TRAINING_FAILED | UPDATE_REJECTED when the trained
 *   values are not finite
 */
export async function makeUpdate({ config, plan, file, noise, start }: UpdateOptions): Promise<MadeUpdate> {
  const trained = decodeModelState(file, 'the trained state');
  const values = fileValueCount(trained, updateForm({ config, plan }));
  if (leavesUnchanged({ config, plan })) return { bytes: file, values, memory: null, clipped: null };
  const { base, start: global, own } = await start();
  const { privacy } = config;
  const shielded =
    privacy?.at === 'site'
      ? protectUpdate(trained, global, { config, plan, baseWeights: base.weights, privacy, random: noise })
      : null;
  const { bytes, residual } = encodeUpdate({
    ...{ config, plan, base },
    start: global,
    trained: shielded?.state ?? trained,
    residual: own?.residual ?? null,
  });
  return {
    bytes,
    values,
    memory: encodeLocalParameters({ kept: takeKept(trained, localParts(config, plan)), residual }, global),
    clipped: shielded && { norm: shielded.norm, factor: shielded.factor },
  };
}
