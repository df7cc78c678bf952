/**
 * Clipping and Gaussian noise on a change: the difference, value by value, between a state and the one that the round
 * started from, over all tensors that travel (factors, head, base weights), as one vector. McMahan et al. 2018, arXiv
 * 1710.06963; docs/strategy-options.md says what this protects from whom.
 */
import type { PrivacySettings } from '../../config/round-options.ts';
import { type ModelState, withTensors } from '../../lora/model-state.ts';
import { AppError } from '../../shared/errors.ts';
import { type FloatTensor, floatTensor, sameDims } from '../../shared/tensor.ts';
import { rejected } from '../check-update.ts';
import { startOf } from '../site-rank.ts';
import { sentTensors, type Travels } from '../what-travels.ts';
import type { GaussianSource } from './gaussian-noise.ts';

export interface ChangeOptions extends Travels {
  /** The base model's own weights: what a round of base weights starts from until one has replaced them. */
  baseWeights?: ReadonlyMap<string, FloatTensor>;
}

export interface ClippedChange {
  state: ModelState;
  /** L2 norm of the change before clipping. */
  norm: number;
  /** By what the change was multiplied; 1 when it was small enough. */
  factor: number;
}

/**
 * L2 norm of the change. Layers of a lower rank than the start's are compared with its first rows and columns.
 * @throws AppError UPDATE_REJECTED when the two do not fit or a value is not finite
 */
export function changeNorm(state: ModelState, start: ModelState, options: ChangeOptions): number {
  let sum = 0;
  for (const { now, before } of pairs(state, start, options)) {
    for (let i = 0; i < now.data.length; i++) sum += (now.data[i]! - before.data[i]!) ** 2;
  }
  if (!Number.isFinite(sum)) throw rejected('it holds values that are not finite numbers');
  return Math.sqrt(sum);
}

/** start + factor · (state − start) for what travels, in float64, rounded to float32. */
export function scaleChange(
  state: ModelState,
  start: ModelState,
  factor: number,
  options: ChangeOptions,
): ModelState {
  if (factor === 1) return state;
  return mapChange(state, start, options, (now, before) => before + factor * (now - before));
}

/**
 * The state with its change scaled down to at most `clipNorm`. Rounding to float32 can leave the norm above it by a
 * relative 1e-7 of the values' own size.
 * @throws AppError UPDATE_REJECTED as {@link changeNorm}
 */
export function clipChange(
  state: ModelState,
  start: ModelState,
  options: ChangeOptions & { clipNorm: number },
): ClippedChange {
  const norm = changeNorm(state, start, options);
  const factor = norm > options.clipNorm ? options.clipNorm / norm : 1;
  return { state: scaleChange(state, start, factor, options), norm, factor };
}

/** The state with N(0, standardDeviation²) added to each value that travels. */
export function addNoise(
  state: ModelState,
  start: ModelState,
  options: ChangeOptions & { standardDeviation: number; random: GaussianSource },
): ModelState {
  const { standardDeviation, random } = options;
  if (!(Number.isFinite(standardDeviation) && standardDeviation >= 0)) {
    throw new AppError('CONFIG_INVALID', `The noise has the standard deviation ${standardDeviation}.`);
  }
  if (standardDeviation === 0) return state;
  return mapChange(state, start, options, (now) => now + standardDeviation * random.normal());
}

/**
 * What a site does before its update leaves it when `privacy.at` is `site`: clips its change to `clipNorm` and adds
 * noise of standard deviation `noiseMultiplier · clipNorm`.
 */
export function protectUpdate(
  state: ModelState,
  start: ModelState,
  options: ChangeOptions & { privacy: PrivacySettings; random: GaussianSource },
): ClippedChange {
  const { clipNorm, noiseMultiplier } = options.privacy;
  const clipped = clipChange(state, start, { ...options, clipNorm });
  const standardDeviation = noiseMultiplier * clipNorm;
  return { ...clipped, state: addNoise(clipped.state, start, { ...options, standardDeviation }) };
}

/**
 * Standard deviation of the noise on the mean of `sites` clipped changes of equal weight, when `privacy.at` is
 * `coordinator`: noise of noiseMultiplier · clipNorm on their sum, divided by their number.
 */
export function noiseOfMean({ clipNorm, noiseMultiplier }: PrivacySettings, sites: number): number {
  return (noiseMultiplier * clipNorm) / sites;
}

function mapChange(
  state: ModelState,
  start: ModelState,
  options: ChangeOptions,
  change: (now: number, before: number) => number,
): ModelState {
  const tensors = new Map<string, FloatTensor>();
  for (const { name, now, before } of pairs(state, start, options)) {
    tensors.set(
      name,
      floatTensor(
        now.dims,
        now.data.map((value, i) => change(value, before.data[i]!)),
      ),
    );
  }
  return withTensors(state, tensors);
}

function pairs(state: ModelState, start: ModelState, options: ChangeOptions) {
  const starts = sentTensors(startOf(state, start, options.baseWeights), options);
  return [...sentTensors(state, options)].map(([name, now]) => {
    const before = starts.get(name);
    if (before === undefined || !sameDims(now.dims, before.dims)) {
      throw rejected(`"${name}" differs in name or shape from what the round started with`);
    }
    return { name, now, before };
  });
}
