/** Settings that any strategy can be combined with; `refuseCombinations` says which pairs make no sense. */
import { z } from 'zod';
import { choice, grouped, setting } from './setting.ts';

const momentum = (preset: number) => z.number().min(0).lt(1).default(preset);
const positive = z.number().positive().max(1e9);
const off = () => z.boolean().default(false);
const serverRate = (preset: number) =>
  setting('Server learning rate. Scales the merged change.', positive.default(preset), {
    flag: 'server-learning-rate',
  });
const serverMomentum = { flag: 'server-momentum' };

/**
 * What the coordinator does with the merged change of a round (Reddi et al. 2021, arXiv 2003.00295). `none` takes it
 * as it is. `momentum`: FedAvgM (Hsu et al. 2019, arXiv 1909.06335). `adam`: FedAdam, value by value.
 */
export const serverOptimiserSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({
    kind: z.literal('momentum'),
    learningRate: serverRate(1),
    beta: setting('Server momentum. Kept from round to round.', momentum(0.9), serverMomentum),
  }),
  z.strictObject({
    kind: z.literal('adam'),
    learningRate: serverRate(0.01),
    beta1: setting('Server beta 1. Decay of the mean.', momentum(0.9), serverMomentum),
    beta2: setting('Server beta 2. Decay of the mean square.', momentum(0.99), { flag: 'server-beta2' }),
    epsilon: setting('Server epsilon. Bounds the step.', positive.default(1e-3), { flag: 'server-epsilon' }),
  }),
]);
export type ServerOptimiserSettings = z.infer<typeof serverOptimiserSchema>;

export const wirePrecisionSchema = choice({
  fp32: 'Exact (32 bits)',
  fp16: 'Half (16 bits)',
  int8: 'Coarse (8 bits)',
});
export type WirePrecision = z.infer<typeof wirePrecisionSchema>;
const precision = () => wirePrecisionSchema.default('fp32');

/** Numbers as they travel. Updates are coded as differences from the state that the round started from. */
export const wireSchema = z.strictObject({
  up: setting('Precision of updates. For the numbers that sites send.', precision(), { flag: null }),
  down: setting('Precision of shared states. For the numbers that the coordinator sends.', precision(), {
    flag: null,
  }),
  /** Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847. */
  errorFeedback: setting("Error feedback. What rounding removed is added to a site's next update.", off()),
});

/**
 * Differential privacy of a site's participation (McMahan et al. 2018, arXiv 1710.06963): each update's change is
 * clipped to an L2 norm of `clipNorm`, and Gaussian noise of standard deviation `noiseMultiplier · clipNorm` is added
 * to the sum of equal-weighted changes by the coordinator, or to each single change by its site.
 */
export const privacySchema = z.strictObject({
  at: setting(
    'Noise. Hides what any one site contributed; the run shows the ε spent.',
    choice({ site: 'Each site adds it before sending', coordinator: 'The coordinator adds it to the sum' }),
    { flag: 'privacy', none: 'None' },
  ),
  clipNorm: setting('Clipping norm. Updates whose change has a larger L2 norm are scaled down.', positive, {
    start: 1,
  }),
  noiseMultiplier: setting(
    'Noise multiplier. Standard deviation of the noise, as a multiple of the clipping norm.',
    z.number().min(0).max(1e6),
    {
      start: 1,
    },
  ),
  delta: setting(
    'δ of the reported ε. The probability that ε does not hold.',
    z.number().gt(0).lt(1).default(1e-5),
  ),
});
export type PrivacySettings = z.infer<typeof privacySchema>;

/** How updates that may be wrong or hostile are merged. */
export const robustSchema = z.discriminatedUnion('rule', [
  z.strictObject({ rule: z.literal('mean') }),
  z.strictObject({
    rule: z.literal('norm-bound'),
    factor: setting(
      'Norm limit. A multiple of the median norm; larger changes are scaled down.',
      positive.default(2),
      { flag: 'robust-factor' },
    ),
  }),
  /** Coordinate-wise median (Yin et al. 2018, arXiv 1803.01498). */
  z.strictObject({ rule: z.literal('median') }),
  /** Coordinate-wise mean without the largest and the smallest `share` of the values (same source). */
  z.strictObject({
    rule: z.literal('trimmed-mean'),
    share: setting(
      'Trimmed share. Share of the sorted values left out at each end.',
      z.number().gt(0).lt(0.5).default(0.2),
      {
        flag: 'trim-share',
        unit: 'share',
        slider: [0.05, 0.45, 0.05],
      },
    ),
  }),
  /** Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757): the mean of those updates that have close neighbours. */
  z.strictObject({
    rule: z.literal('multi-krum'),
    byzantine: setting(
      'Hostile sites. How many faulty or hostile sites the rule tolerates.',
      z.int().min(1).max(10_000),
      { start: 1 },
    ),
  }),
]);
export type RobustSettings = z.infer<typeof robustSchema>;

/** The groups of options, as a run has them. */
export const roundOptionsShape = {
  ...grouped('What travels', {
    wire: wireSchema.prefault({}),
    /** Personalisation. */
    localHead: setting(
      'Each site keeps its own classifier. It fits the site better and never leaves it.',
      off(),
    ),
  }),
  ...grouped('Privacy noise', { privacy: privacySchema.nullable().default(null) }),
  robust: setting(
    'Rule. How the coordinator merges updates when some may be faulty or hostile.',
    robustSchema.default({ rule: 'mean' }),
    {
      group: 'Protection against wrong updates',
      flag: 'robust',
      byDefault: 'Limit oversized updates, with three sites or more',
      choices: {
        mean: 'None: plain mean',
        'norm-bound': 'Limit oversized updates',
        median: 'Median of each value',
        'trimmed-mean': 'Mean without the extremes',
        'multi-krum': 'Only updates with close neighbours (multi-Krum)',
      },
    },
  ),
  serverOptimiser: setting(
    "Server optimiser. What the coordinator does with a round's merged change.",
    serverOptimiserSchema.default({ kind: 'none' }),
    {
      group: 'Merging',
      flag: 'server-optimiser',
      choices: { none: 'None', momentum: 'Momentum (FedAvgM)', adam: 'Adam (FedAdam)' },
    },
  ),
};
