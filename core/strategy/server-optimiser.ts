/**
 * What the coordinator does with a round's merged change (Reddi et al. 2021, arXiv 2003.00295), instead of taking it
 * as it is. Value by value for averaged tensors; for exact aggregation momentum on the products ΔW.
 */
import type { ServerOptimiserSettings } from '../config/round-options.ts';
import type { FactorPart } from '../lora/factor-sum.ts';
import { type LoraLayer, memoryName } from '../lora/model-state.ts';
import { AppError } from '../shared/errors.ts';
import { type FloatTensor, floatTensor, sameDims } from '../shared/tensor.ts';
import type { ServerMemory } from './strategy.ts';

type Momentum = Extract<ServerOptimiserSettings, { kind: 'momentum' }>;
type Adam = Extract<ServerOptimiserSettings, { kind: 'adam' }>;

export interface ServerStep {
  /** The tensors that the round started from, by name. */
  before: ReadonlyMap<string, FloatTensor>;
  /** What the sites' updates were merged to: the same names and shapes. */
  after: ReadonlyMap<string, FloatTensor>;
  /** Of the step before; null in the first round. Entries of other names or shapes than now are left out. */
  memory: ServerMemory | null;
}

/**
 * One step of the server optimiser over named tensors, with Δ = after − before:
 * - `momentum` (FedAvgM, Hsu et al. 2019, arXiv 1909.06335): v ← β v + Δ, x ← x + η v;
 * - `adam` (FedAdam): m ← β₁ m + (1 − β₁) Δ, v ← β₂ v + (1 − β₂) Δ², x ← x + η m / (√v + τ), with m = 0 and v = τ²
 *   at first and no correction of that, as in the paper.
 * Computed in float64, kept in float32.
 * @throws AppError SHAPE_MISMATCH when `before` lacks a tensor or has it in another shape
 */
export function applyServerOptimiser(
  settings: ServerOptimiserSettings,
  { before, after, memory }: ServerStep,
): { tensors: Map<string, FloatTensor>; memory: Map<string, FloatTensor> | null } {
  if (settings.kind === 'none') return { tensors: new Map(after), memory: null };
  const tensors = new Map<string, FloatTensor>();
  const kept = new Map<string, FloatTensor>();
  for (const [name, merged] of after) {
    const old = before.get(name);
    if (old === undefined || !sameDims(old.dims, merged.dims)) {
      throw new AppError(
        'SHAPE_MISMATCH',
        `"${name}" of the merged state has no counterpart in the global one.`,
      );
    }
    const own = memoryName(name);
    const moment = (prefix: string, first: number) =>
      momentOf(memory, `${prefix}.${own}`, merged.dims, first);
    if (settings.kind === 'momentum') {
      const velocity = moment(velocityName, 0);
      tensors.set(name, momentumStep(settings, old, merged, velocity));
      kept.set(`${velocityName}.${own}`, velocity);
    } else {
      const mean = moment(meanName, 0);
      const square = moment(squareName, settings.epsilon ** 2);
      tensors.set(name, adamStep(settings, old, merged, { mean, square }));
      kept.set(`${meanName}.${own}`, mean);
      kept.set(`${squareName}.${own}`, square);
    }
  }
  return { tensors, memory: kept };
}

const [velocityName, meanName, squareName, previousName] = ['velocity', 'mean', 'square', 'previous'];

/** A copy of a moment as it was kept, or a new one with `first` everywhere. */
function momentOf(
  memory: ServerMemory | null,
  name: string,
  dims: readonly number[],
  first: number,
): FloatTensor {
  const kept = memory?.get(name);
  if (kept !== undefined && sameDims(kept.dims, dims)) return floatTensor(dims, kept.data.slice());
  const fresh = floatTensor(dims);
  fresh.data.fill(first);
  return fresh;
}

/** Changes `velocity`. */
function momentumStep(
  { learningRate, beta }: Momentum,
  before: FloatTensor,
  after: FloatTensor,
  velocity: FloatTensor,
): FloatTensor {
  const v = velocity.data;
  const data = before.data.map((value, i) => {
    const next = beta * v[i]! + (after.data[i]! - value);
    v[i] = next;
    return value + learningRate * next;
  });
  return floatTensor(before.dims, data);
}

/** Changes both moments. */
function adamStep(
  { learningRate, beta1, beta2, epsilon }: Adam,
  before: FloatTensor,
  after: FloatTensor,
  { mean, square }: { mean: FloatTensor; square: FloatTensor },
): FloatTensor {
  const [m, v] = [mean.data, square.data];
  const data = before.data.map((value, i) => {
    const change = after.data[i]! - value;
    const first = beta1 * m[i]! + (1 - beta1) * change;
    const second = beta2 * v[i]! + (1 - beta2) * change * change;
    m[i] = first;
    v[i] = second;
    return value + (learningRate * first) / (Math.sqrt(second) + epsilon);
  });
  return floatTensor(before.dims, data);
}

/**
 * Momentum for a layer whose ΔW is aggregated exactly and decomposed anew each round, so that single values of its
 * factors have no history. In the equivalent form of a heavy ball it needs no velocity but the ΔW before this one:
 *
 *     ΔW ← ΔW_t + η (mean − ΔW_t) + β (ΔW_t − ΔW_{t−1})
 *
 * which is FedAvgM as long as nothing is cut off, and follows what was kept when ranks shrink. All terms are low-rank
 * products, so they go into the same exact sum as the sites' updates.
 * @param divisor of the sum so far: the sum of the sites' weights
 * @param before the layer that the round started from
 * @param previous of {@link previousLayer}; null in the first round
 * @returns what to add to the sum, and the divisor to use then
 */
export function productMomentum(
  { learningRate, beta }: Momentum,
  divisor: number,
  before: LoraLayer,
  previous: FactorPart | null,
): { parts: FactorPart[]; divisor: number } {
  const whole = divisor / learningRate;
  const inertia = previous === null ? 0 : beta;
  const parts: FactorPart[] = [];
  const own = 1 - learningRate + inertia;
  const { scale, a, b } = before;
  if (own !== 0 && before.r > 0) parts.push({ weight: own * whole, scale, a, b });
  if (previous !== null && previous.a.dims[0]! > 0 && inertia !== 0) {
    parts.push({ ...previous, weight: -inertia * whole * previous.weight });
  }
  return { parts, divisor: whole };
}

/** What to remember of the layers that a round started from, for {@link previousLayer} in the next. */
export function rememberLayers(lora: ReadonlyMap<string, LoraLayer>): Map<string, FloatTensor> {
  const memory = new Map<string, FloatTensor>();
  for (const [module, { a, b, scale, r }] of lora) {
    if (r === 0) continue;
    memory.set(`${previousName}.${module}.a`, a);
    memory.set(`${previousName}.${module}.b`, b);
    memory.set(`${previousName}.${module}.scale`, floatTensor([1], Float32Array.of(scale)));
  }
  return memory;
}

/** ΔW of a layer one round before; null when nothing is remembered. */
export function previousLayer(memory: ServerMemory | null, module: string): FactorPart | null {
  const [a, b, scale] = ['a', 'b', 'scale'].map((part) => memory?.get(`${previousName}.${module}.${part}`));
  if (a === undefined || b === undefined || scale === undefined) return null;
  return { weight: 1, scale: scale.data[0]!, a, b };
}
