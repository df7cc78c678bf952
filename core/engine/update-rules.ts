/** How one tensor changes in one optimiser step, given its gradient. */

export interface RuleOptions {
  /** AdamW. */
  beta1?: number;
  beta2?: number;
  epsilon?: number;
  /** SGD. */
  momentum?: number;
  nesterov?: boolean;
}

export interface UpdateSettings {
  /** Learning rate of this step. */
  rate: number;
  weightDecay: number;
  /** Factor on the gradient. */
  clip: number;
  /** Steps with this one, from 1. */
  step: number;
}

export interface UpdateRule {
  /** Names of the tensors that the rule keeps per parameter, of its length, at first 0. */
  readonly moments: readonly string[];
  update(
    values: Float32Array,
    gradient: Float32Array,
    moments: readonly Float32Array[],
    settings: UpdateSettings,
  ): void;
}

/** Loshchilov and Hutter 2019, algorithm 2, with PyTorch's place for epsilon. */
export function adamW({ beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 }: RuleOptions): UpdateRule {
  return {
    moments: ['mean', 'square'],
    update(values, gradient, moments, { rate, weightDecay, clip, step }) {
      const [mean, square] = moments as [Float32Array, Float32Array];
      const keep = 1 - rate * weightDecay;
      const stepSize = rate / (1 - beta1 ** step);
      const squareCorrection = 1 / Math.sqrt(1 - beta2 ** step);
      const meanShare = (1 - beta1) * clip;
      const squareShare = (1 - beta2) * clip * clip;
      for (let i = 0; i < values.length; i++) {
        const g = gradient[i]!;
        const m = beta1 * mean[i]! + meanShare * g;
        const v = beta2 * square[i]! + squareShare * g * g;
        mean[i] = m;
        square[i] = v;
        values[i] = values[i]! * keep - (stepSize * m) / (Math.sqrt(v) * squareCorrection + epsilon);
      }
    },
  };
}

/** Sutskever et al. 2013 in PyTorch's form: the rate multiplies the velocity, whose first value is the gradient. */
export function sgd({ momentum = 0.9, nesterov = false }: RuleOptions): UpdateRule {
  return {
    moments: ['velocity'],
    update(values, gradient, moments, { rate, weightDecay, clip }) {
      const velocity = moments[0]!;
      // Starting from 0, the velocity after the first step is the gradient, as PyTorch has it.
      const ahead = nesterov ? momentum : 1;
      const own = nesterov ? 1 : 0;
      for (let i = 0; i < values.length; i++) {
        const g = gradient[i]! * clip + weightDecay * values[i]!;
        const v = momentum * velocity[i]! + g;
        velocity[i] = v;
        values[i] = values[i]! - rate * (own * g + ahead * v);
      }
    },
  };
}
