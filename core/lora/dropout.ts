/**
 * LoRA dropout masks. A mask depends on (seed, step, module) alone, so a run that resumes at a step draws what
 * it would have drawn without the break, in whatever order the modules are asked for.
 * Source: Srivastava et al. 2014, inverted: kept values grow so that the mean stays.
 */
import { AppError } from '../shared/errors.ts';
import { mixSeed } from '../shared/random.ts';

export interface LoraMaskOptions {
  /** Probability that a value is dropped, 0 to below 1. */
  readonly probability: number;
  readonly seed: number;
  /** Optimiser step, or any other number that differs from draw to draw. */
  readonly step: number;
  readonly module: string;
}

/**
 * Fills `mask` with 0 (dropped) or 1 / (1 − probability) (kept).
 * @throws AppError CONFIG_INVALID when the probability is not in [0, 1)
 */
export function fillLoraMask(mask: Float32Array, options: LoraMaskOptions): void {
  const { probability, seed, step, module } = options;
  if (!(probability >= 0 && probability < 1)) {
    throw new AppError(
      'CONFIG_INVALID',
      `The LoRA dropout is ${probability}; it has to be at least 0 and below 1.`,
    );
  }
  const kept = 1 / (1 - probability);
  const threshold = probability * 2 ** 32;
  // xoshiro128++ (Blackman and Vigna 2021): 32-bit steps stay in integer registers, which a general generator
  // called through an interface does not; a mask has as many values as a layer reads.
  let a = mixSeed('lora mask a', seed, step, module);
  let b = mixSeed('lora mask b', seed, step, module);
  let c = mixSeed('lora mask c', seed, step, module);
  // Never all zero, the one state that the generator cannot leave.
  let d = mixSeed('lora mask d', seed, step, module) | 1;
  for (let index = -warmUpDraws; index < mask.length; index++) {
    const sum = (a + d) | 0;
    const drawn = (((sum << 7) | (sum >>> 25)) + a) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    if (index >= 0) mask[index] = drawn < threshold ? 0 : kept;
  }
}

/** Draws thrown away first: seeds of neighbouring steps differ in few bits. */
const warmUpDraws = 16;
