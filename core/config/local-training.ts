/** Settings of local training that the coordinator decides; each is explained in docs/training.md. */
import { z } from 'zod';

/**
 * How strongly images are changed while training. Each number is the limit of what is drawn for an image; 0
 * means none of it.
 */
export const augmentationSettingsSchema = z.object({
  /** Probability of a horizontal flip. */
  flip: z.number().min(0).max(1).default(0.5),
  /** Largest rotation either way. */
  rotationDegrees: z.number().min(0).max(180).default(8),
  /** Largest shift either way, as a share of the image's side. */
  shift: z.number().min(0).max(0.5).default(0.04),
  /** Largest enlargement (a crop) or reduction; 0.08 draws factors from 0.92 to 1.08. */
  zoom: z.number().min(0).max(0.9).default(0.08),
  /** Largest change of brightness either way, as a share of the full range. */
  brightness: z.number().min(0).max(1).default(0.08),
  /** Largest change of the contrast factor either way. */
  contrast: z.number().min(0).max(1).default(0.15),
  /** Largest change of the saturation factor either way. */
  saturation: z.number().min(0).max(1).default(0.1),
  /** Largest deviation of a Gaussian blur, as a share of the image's side; half of the images stay sharp. */
  blur: z.number().min(0).max(0.05).default(0.004),
});

/** The settings that have defaults, as they are when nobody chooses. */
export const localTrainingDefaults = {
  optimiser: 'adamw',
  momentum: 0.9,
  nesterov: false,
  learningRateSchedule: 'cosine',
  classWeights: 'none',
  head: 'softmax',
  arcMargin: 0.3,
  arcScale: 16,
  loraDropout: 0,
} as const;

/** Hyper-parameters of local training. Settings with a default may be missing in what was stored before them. */
export const localTrainingSchema = z.object({
  epochs: z.number().positive(),
  batchSize: z.number().int().positive(),
  learningRate: z.number().positive(),
  /** Learning rate of the classification head. */
  headLearningRate: z.number().positive(),
  /** Learning rate of base weights in `full` and `last-k` rounds; pretrained weights want a gentle one. */
  baseLearningRate: z.number().positive(),
  /** AdamW: decoupled weight decay. SGD: added to the gradient, as PyTorch has it. */
  weightDecay: z.number().nonnegative(),
  /** Share of the steps over which the rate rises linearly from 0. */
  warmupShare: z.number().min(0).max(1),
  /** Global-norm clipping; 0 means none. */
  clipNorm: z.number().nonnegative(),
  /** λ of the proximal pull λ(θ − θ_global); 0 means none. */
  proximal: z.number().nonnegative(),
  /** Random changes of the images: none, those of the default strengths, or those of given strengths. */
  augment: z.union([z.boolean(), augmentationSettingsSchema]),
  labelSmoothing: z.number().min(0).max(0.5),
  /**
   * Adds the logarithm of the site's own class shares to the logits in the loss (Menon et al. 2021, arXiv
   * 2007.07314; for federated learning Zhang et al. 2022, arXiv 2209.00189). A site then does not push away
   * the classes that it hardly has, which is what makes sites with different classes drift apart.
   */
  logitAdjustment: z.boolean(),
  optimiser: z.enum(['adamw', 'sgd']).default(localTrainingDefaults.optimiser),
  /** Of SGD. */
  momentum: z.number().min(0).lt(1).default(localTrainingDefaults.momentum),
  /** Of SGD: looks ahead along the momentum (Sutskever et al. 2013, in PyTorch's form). */
  nesterov: z.boolean().default(localTrainingDefaults.nesterov),
  /** How the learning rate goes on after the warm-up. */
  learningRateSchedule: z
    .enum(['cosine', 'linear', 'constant'])
    .default(localTrainingDefaults.learningRateSchedule),
  /** `balanced`: an image counts by the inverse of its class's share among the site's images. */
  classWeights: z.enum(['none', 'balanced']).default(localTrainingDefaults.classWeights),
  /** `arcface`: additive angular margin on normalised embeddings and weights (Deng et al. 2019). */
  head: z.enum(['softmax', 'arcface']).default(localTrainingDefaults.head),
  /** Margin of the arcface head in radians. */
  arcMargin: z.number().min(0).max(1.5).default(localTrainingDefaults.arcMargin),
  /** Factor on the cosines of the arcface head. */
  arcScale: z.number().positive().max(256).default(localTrainingDefaults.arcScale),
  /** Probability that a value which a LoRA branch reads is dropped. */
  loraDropout: z.number().min(0).max(0.9).default(localTrainingDefaults.loraDropout),
});

export const trainModeSchema = z.enum(['head', 'lora', 'full', 'last-k']);

/** Factors of every layer that train in mode `lora`; the other keeps the values that the job started with. */
export const trainedFactorsSchema = z.enum(['both', 'a', 'b']);

/** How the head turns embeddings into logits; what evaluation has to know. */
export const headSettingsSchema = localTrainingSchema.pick({ head: true, arcScale: true });

export type AugmentationSettings = z.infer<typeof augmentationSettingsSchema>;
export type LocalTraining = z.infer<typeof localTrainingSchema>;
export type HeadSettings = z.infer<typeof headSettingsSchema>;
export type TrainMode = z.infer<typeof trainModeSchema>;
