/** Settings that any strategy can be combined with; `refuseContradictions` says which pairs make no sense. */
import { z } from 'zod';

/**
 * What the coordinator does with the merged change of a round (Reddi et al. 2021, arXiv 2003.00295). `none` takes it
 * as it is. `momentum`: FedAvgM (Hsu et al. 2019, arXiv 1909.06335). `adam`: FedAdam, value by value.
 */
export const serverOptimiserSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('none') }),
  z.object({
    kind: z.literal('momentum'),
    learningRate: z.number().positive().default(1),
    beta: z.number().min(0).lt(1).default(0.9),
  }),
  z.object({
    kind: z.literal('adam'),
    learningRate: z.number().positive().default(0.01),
    beta1: z.number().min(0).lt(1).default(0.9),
    beta2: z.number().min(0).lt(1).default(0.99),
    epsilon: z.number().positive().default(1e-3),
  }),
]);
export type ServerOptimiserSettings = z.infer<typeof serverOptimiserSchema>;

export const wirePrecisionSchema = z.enum(['fp32', 'fp16', 'int8']);
export type WirePrecision = z.infer<typeof wirePrecisionSchema>;

/**
 * Numbers as they travel. Updates are coded as differences from the state that the round started from.
 * `errorFeedback`: what rounding took from an update is added to the site's next one (Seide et al. 2014; Karimireddy
 * et al. 2019, arXiv 1901.09847).
 */
export const wireSchema = z.object({
  up: wirePrecisionSchema.default('fp32'),
  down: wirePrecisionSchema.default('fp32'),
  errorFeedback: z.boolean().default(false),
});
export type WireSettings = z.infer<typeof wireSchema>;

/**
 * Differential privacy of a site's participation (McMahan et al. 2018, arXiv 1710.06963): each update's change is
 * clipped to an L2 norm of `clipNorm`, and Gaussian noise of standard deviation `noiseMultiplier · clipNorm` is added
 * to the sum of equal-weighted changes by the coordinator, or to each single change by its site.
 */
export const privacySchema = z.object({
  at: z.enum(['site', 'coordinator']),
  clipNorm: z.number().positive(),
  noiseMultiplier: z.number().nonnegative(),
  /** δ for which ε is reported. */
  delta: z.number().gt(0).lt(1).default(1e-5),
});
export type PrivacySettings = z.infer<typeof privacySchema>;

/** How updates that may be wrong or hostile are merged. */
export const robustSchema = z.discriminatedUnion('rule', [
  z.object({ rule: z.literal('mean') }),
  /** A change larger than `factor` times the median norm of the round is scaled down to that. */
  z.object({ rule: z.literal('norm-bound'), factor: z.number().positive().default(2) }),
  /** Coordinate-wise median (Yin et al. 2018, arXiv 1803.01498). */
  z.object({ rule: z.literal('median') }),
  /** Coordinate-wise mean without the largest and the smallest `share` of the values (same source). */
  z.object({ rule: z.literal('trimmed-mean'), share: z.number().gt(0).lt(0.5).default(0.2) }),
  /** Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757): the mean of those updates that have close neighbours. */
  z.object({ rule: z.literal('multi-krum'), byzantine: z.number().int().min(1) }),
]);
export type RobustSettings = z.infer<typeof robustSchema>;
