/**
 * AdamW (Loshchilov and Hutter 2019, decoupled weight decay) with linear warm-up, cosine decay,
 * global-norm clipping and the proximal pull of FedProx (Li et al. 2020). Works in place on the small
 * trainable tensors; the arithmetic is double precision, the stored values single.
 */

export interface ParameterGroup {
  learningRate: number;
  weightDecay: number;
  /** Parameters by name; updated in place. */
  parameters: ReadonlyMap<string, Float32Array>;
}

export interface OptimiserOptions {
  groups: readonly ParameterGroup[];
  /** Total steps of the learning-rate schedule. */
  steps: number;
  /** Share of the steps over which the rate rises linearly from 0. */
  warmupShare: number;
  /** Largest global L2 norm of the gradient, proximal pull included; 0 means no clipping. */
  clipNorm: number;
  /** λ of the pull λ(θ − θ₀) towards the values that the parameters have now; 0 means none. */
  proximal: number;
  beta1?: number;
  beta2?: number;
  epsilon?: number;
}

export interface OptimiserStep {
  /** Global L2 norm of the gradient before clipping, proximal pull included. */
  gradientNorm: number;
  /** Factor that the schedule put on every learning rate. */
  rateFactor: number;
}

export interface Optimiser {
  /**
   * Updates every parameter once. @param gradients by parameter name, same lengths; they are overwritten
   * @throws RangeError when a gradient is missing or has the wrong length
   */
  step(gradients: ReadonlyMap<string, Float32Array>): OptimiserStep;
}

interface Slot {
  name: string;
  group: ParameterGroup;
  values: Float32Array;
  anchor: Float32Array | undefined;
  mean: Float32Array;
  square: Float32Array;
}

export function createAdamW(options: OptimiserOptions): Optimiser {
  const { steps, warmupShare, clipNorm, proximal, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
  const slots: Slot[] = options.groups.flatMap((group) =>
    [...group.parameters].map(([name, values]) => ({
      name,
      group,
      values,
      anchor: proximal > 0 ? values.slice() : undefined,
      mean: new Float32Array(values.length),
      square: new Float32Array(values.length),
    })),
  );
  let step = 0;

  function update(slot: Slot, gradient: Float32Array, clip: number, rateFactor: number): void {
    const { values, mean, square, group } = slot;
    const rate = group.learningRate * rateFactor;
    const keep = 1 - rate * group.weightDecay;
    const stepSize = rate / (1 - beta1 ** step);
    const squareCorrection = Math.sqrt(1 - beta2 ** step);
    for (let i = 0; i < values.length; i++) {
      const g = gradient[i]! * clip;
      const m = beta1 * mean[i]! + (1 - beta1) * g;
      const v = beta2 * square[i]! + (1 - beta2) * g * g;
      mean[i] = m;
      square[i] = v;
      values[i] = values[i]! * keep - (stepSize * m) / (Math.sqrt(v) / squareCorrection + epsilon);
    }
  }

  return {
    step(gradients) {
      let sum = 0;
      for (const slot of slots) sum += pullAndMeasure(slot, gradientOf(gradients, slot), proximal);
      const gradientNorm = Math.sqrt(sum);
      const clip = clipNorm > 0 && gradientNorm > clipNorm ? clipNorm / gradientNorm : 1;
      const rateFactor = learningRateFactor(step, steps, warmupShare);
      step += 1;
      for (const slot of slots) update(slot, gradientOf(gradients, slot), clip, rateFactor);
      return { gradientNorm, rateFactor };
    },
  };
}

/**
 * Linear rise over the first `warmupShare` of the steps, then half a cosine down towards 0.
 * @param step 0-based
 * @returns factor in (0, 1]
 */
export function learningRateFactor(step: number, steps: number, warmupShare: number): number {
  const warmup = Math.round(steps * warmupShare);
  if (step < warmup) return (step + 1) / (warmup + 1);
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  return 0.5 * (1 + Math.cos(Math.PI * progress));
}

/** Adds the proximal pull to the gradient and gives its sum of squares. */
function pullAndMeasure({ values, anchor }: Slot, gradient: Float32Array, proximal: number): number {
  let sum = 0;
  for (let i = 0; i < gradient.length; i++) {
    if (anchor) gradient[i] = gradient[i]! + proximal * (values[i]! - anchor[i]!);
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
