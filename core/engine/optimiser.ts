/**
 * Optimisers on the trainable tensors, in place: a learning-rate schedule, global-norm clipping and the proximal
 * pull of FedProx (Li et al. 2020) around one of the update rules of update-rules.ts. The arithmetic is double
 * precision, the stored values single. Nothing is allocated per step.
 */
import { adamW, type RuleOptions, sgd, type UpdateRule } from './update-rules.ts';

export type ScheduleName = 'cosine' | 'linear' | 'constant';

export interface ParameterGroup {
  learningRate: number;
  weightDecay: number;
  /** Parameters by name; updated in place. */
  parameters: ReadonlyMap<string, Float32Array>;
}

export interface OptimiserOptions extends RuleOptions {
  groups: readonly ParameterGroup[];
  /** Total steps of the learning-rate schedule. */
  steps: number;
  /** Share of the steps over which the rate rises linearly from 0. */
  warmupShare: number;
  learningRateSchedule?: ScheduleName;
  /** Largest global L2 norm of the gradient, proximal pull included; 0 means no clipping. */
  clipNorm: number;
  /** λ of the pull λ(θ − θ₀) towards the values that the parameters have now; 0 means none. */
  proximal: number;
}

export interface OptimiserStep {
  /** Global L2 norm of the gradient before clipping, proximal pull included. */
  gradientNorm: number;
  /** Factor that the schedule put on every learning rate; 0 when nothing was updated. */
  rateFactor: number;
}

export interface Optimiser {
  /**
   * Updates every parameter once, or none when the gradient's norm is not a finite number.
   * @param gradients by parameter name, same lengths; they are overwritten
   * @throws RangeError when a gradient is missing or has the wrong length
   */
  step(gradients: ReadonlyMap<string, Float32Array>): OptimiserStep;
  /** Moments by `${moment}/${parameter}`: views, not copies. With {@link restore} all that a checkpoint needs. */
  readonly moments: ReadonlyMap<string, Float32Array>;
  /**
   * Goes on after `step` steps with these moments. The parameters themselves are the caller's to restore.
   * @throws RangeError when a moment is missing or has the wrong length; nothing is changed then
   */
  restore(step: number, moments: ReadonlyMap<string, Float32Array>): void;
}

interface Slot {
  name: string;
  group: ParameterGroup;
  values: Float32Array;
  /** Where the proximal pull leads. */
  anchor: Float32Array | undefined;
  moments: readonly Float32Array[];
}

/** AdamW (Loshchilov and Hutter 2019): decoupled weight decay, bias correction. */
export function createAdamW(options: OptimiserOptions): Optimiser {
  return createOptimiser(adamW(options), options);
}

/** SGD with momentum, plain or Nesterov's, as PyTorch defines them; weight decay is added to the gradient. */
export function createSgd(options: OptimiserOptions): Optimiser {
  return createOptimiser(sgd(options), options);
}

function createOptimiser(rule: UpdateRule, options: OptimiserOptions): Optimiser {
  const { steps, warmupShare, clipNorm, proximal, learningRateSchedule } = options;
  const slots: Slot[] = options.groups.flatMap((group) =>
    [...group.parameters].map(([name, values]) => ({
      name,
      group,
      values,
      anchor: proximal > 0 ? values.slice() : undefined,
      moments: rule.moments.map(() => new Float32Array(values.length)),
    })),
  );
  const moments = new Map(
    slots.flatMap((slot) => rule.moments.map((moment, i) => [`${moment}/${slot.name}`, slot.moments[i]!])),
  );
  let step = 0;

  return {
    moments,
    step(gradients) {
      let sum = 0;
      for (const slot of slots) sum += pullAndMeasure(slot, gradientOf(gradients, slot), proximal);
      const gradientNorm = Math.sqrt(sum);
      if (!Number.isFinite(gradientNorm)) return { gradientNorm, rateFactor: 0 };
      const clip = clipNorm > 0 && gradientNorm > clipNorm ? clipNorm / gradientNorm : 1;
      const rateFactor = learningRateFactor(step, steps, warmupShare, learningRateSchedule);
      step += 1;
      for (const { name, values, group, moments: own } of slots) {
        const settings = {
          rate: group.learningRate * rateFactor,
          weightDecay: group.weightDecay,
          clip,
          step,
        };
        rule.update(values, gradients.get(name)!, own, settings);
      }
      return { gradientNorm, rateFactor };
    },
    restore(doneSteps, stored) {
      for (const [name, values] of moments) {
        if (stored.get(name)?.length !== values.length) {
          throw new RangeError(`the moment ${name} must have ${values.length} values`);
        }
      }
      for (const [name, values] of moments) values.set(stored.get(name)!);
      step = doneSteps;
    },
  };
}

/** Adds the proximal pull to the gradient and gives its sum of squares. */
function pullAndMeasure({ values, anchor }: Slot, gradient: Float32Array, proximal: number): number {
  let sum = 0;
  if (anchor === undefined) {
    for (let i = 0; i < gradient.length; i++) sum += gradient[i]! * gradient[i]!;
    return sum;
  }
  for (let i = 0; i < gradient.length; i++) {
    gradient[i] = gradient[i]! + proximal * (values[i]! - anchor[i]!);
    sum += gradient[i]! * gradient[i]!;
  }
  return sum;
}

function gradientOf(gradients: ReadonlyMap<string, Float32Array>, { name, values }: Slot): Float32Array {
  const gradient = gradients.get(name);
  if (gradient?.length !== values.length) {
    throw new RangeError(`the gradient of ${name} must have ${values.length} values`);
  }
  return gradient;
}

/**
 * Linear rise over the first `warmupShare` of the steps, then half a cosine or a straight line down towards 0,
 * or no fall at all.
 * @param step 0-based
 * @returns factor in (0, 1]
 */
export function learningRateFactor(
  step: number,
  steps: number,
  warmupShare: number,
  schedule: ScheduleName = 'cosine',
): number {
  const warmup = Math.round(steps * warmupShare);
  if (step < warmup) return (step + 1) / (warmup + 1);
  if (schedule === 'constant') return 1;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  return schedule === 'linear' ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
}
