/** Settings of local training that the coordinator decides; each is explained in docs/training.md. */
import { z } from 'zod';
import { choice, grouped, setting, strategiesThat } from './setting.ts';

const share = (preset: number) => z.number().min(0).max(1).default(preset);
const positive = (preset: number) => z.number().positive().max(1e6).default(preset);
const amount = (preset: number) => z.number().nonnegative().max(1e6).default(preset);
const off = () => z.boolean().default(false);

/**
 * How strongly images are changed while training. Each number is the limit of what is drawn for an image; 0
 * means none of it.
 */
export const augmentationSettingsSchema = z.strictObject({
  /** Probability of a horizontal flip. */
  flip: share(0.5),
  /** Largest rotation either way. */
  rotationDegrees: z.number().min(0).max(180).default(8),
  /** Largest shift either way, as a share of the image's side. */
  shift: z.number().min(0).max(0.5).default(0.04),
  /** Largest enlargement (a crop) or reduction; 0.08 draws factors from 0.92 to 1.08. */
  zoom: z.number().min(0).max(0.9).default(0.08),
  /** Largest change of brightness either way, as a share of the full range. */
  brightness: share(0.08),
  /** Largest change of the contrast factor either way. */
  contrast: share(0.15),
  /** Largest change of the saturation factor either way. */
  saturation: share(0.1),
  /** Largest deviation of a Gaussian blur, as a share of the image's side; half of the images stay sharp. */
  blur: z.number().min(0).max(0.05).default(0.004),
});

const percent = { unit: 'share' } as const;
const adapter = { for: strategiesThat.haveFactors };
const network = { for: strategiesThat.trainBaseWeights };
const sgd = { when: ['training.optimiser', 'sgd'] } as const;
const arcface = { when: ['training.head', 'arcface'] } as const;
const cosines = { when: ['training.head', 'cosine', 'arcface'] } as const;

const localTrainingShape = grouped('Training at the sites', {
  epochs: setting('Epochs per round. Fractions of an epoch are allowed.', positive(1)),
  batchSize: setting('Images per step. The batch size.', z.int().positive().max(100_000).default(16)),
  learningRate: setting('Learning rate of the adapter. For the LoRA factors.', positive(2e-3), adapter),
  headLearningRate: setting('Learning rate of the classifier. For the classification head.', positive(1e-2)),
  baseLearningRate: setting(
    'Learning rate of the network. Pretrained weights need a low one.',
    positive(1e-4),
    network,
  ),
  optimiser: setting(
    'Optimiser at the sites. AdamW (Loshchilov and Hutter 2019), or SGD as in PyTorch.',
    choice({ adamw: 'AdamW', sgd: 'SGD' }).default('adamw'),
  ),
  momentum: setting('Momentum. For SGD.', z.number().min(0).lt(1).default(0.9), sgd),
  /** Sutskever et al. 2013, in PyTorch's form. */
  nesterov: setting('Nesterov momentum. SGD looks ahead along its momentum.', off(), sgd),
  weightDecay: setting('Weight decay. AdamW decouples it; SGD adds it to the gradient.', amount(0.01)),
  warmupShare: setting(
    'Warm-up. Share of the steps over which the learning rate rises from 0.',
    share(0.1),
    percent,
  ),
  learningRateSchedule: setting(
    'Learning rate after the warm-up. It falls to 0 along a cosine or a line, or stays constant.',
    choice({ cosine: 'Cosine', linear: 'Linear', constant: 'Constant' }).default('cosine'),
  ),
  clipNorm: setting('Largest gradient norm. Over all gradients of a step; 0 turns clipping off.', amount(1), {
    flag: 'gradient-clip-norm',
  }),
  /** λ(θ − θ_global) */
  proximal: setting(
    'Proximal term in every round. FedProx λ towards the start of the round; 0 turns it off.',
    amount(0),
    { flag: 'training-proximal' },
  ),
  augment: setting(
    'Augment the images. Random flips, rotations, shifts and more. A settings file can set the strength of each.',
    z.union([z.boolean(), augmentationSettingsSchema]).default(true),
    { flag: null },
  ),
  labelSmoothing: setting(
    'Label smoothing. Share of the target that is spread over all classes.',
    z.number().min(0).max(0.5).default(0.05),
    percent,
  ),
  /**
   * Menon et al. 2021, arXiv 2007.07314; for federated learning Zhang et al. 2022, arXiv 2209.00189. A site then does
   * not push away the classes that it hardly has, which is what makes sites with different classes drift apart.
   */
  logitAdjustment: setting(
    "Logit adjustment. Adds the logarithms of the site's class shares to the logits.",
    off(),
  ),
  classWeights: setting(
    'Class weights. Balanced: images of rare classes count more, by the inverse class share, at most 10 times as much.',
    choice({ none: 'None', balanced: 'Balanced' }).default('none'),
  ),
  /**
   * The cosine heads have no bias: `cosine` (Gidaris and Komodakis 2018, arXiv 1804.09458) and ArcFace (Deng et al. 2019), which is
   * evaluated without its margin.
   */
  head: setting(
    'Classifier. The cosine of an embedding with each class, or linear; ArcFace adds an angular margin to the cosines.',
    choice({ softmax: 'Linear with softmax', cosine: 'Cosine', arcface: 'ArcFace' }).default('softmax'),
  ),
  arcMargin: setting('ArcFace margin. In radians.', z.number().min(0).max(1.5).default(0.3), arcface),
  arcScale: setting(
    'Scale of the cosines. Multiplies them, for the cosine head and ArcFace.',
    z.number().positive().max(256).default(16),
    cosines,
  ),
  loraDropout: setting(
    'Dropout of the adapter. Probability that an input value of a LoRA branch is dropped.',
    z.number().min(0).max(0.9).default(0),
    { ...adapter, ...percent },
  ),
});

/** Hyper-parameters of local training. Runs stored before a setting existed have its default. */
export const localTrainingSchema = z.strictObject(localTrainingShape);

/** `prototypes` trains nothing: sites send sums of embeddings, of which the head is made (core/strategy/prototypes.ts). */
export const trainModeSchema = z.enum(['head', 'lora', 'full', 'last-k', 'prototypes']);

/** Factors of every layer that train in mode `lora`; the others keep the values that the job started with. */
export const trainedFactorsSchema = z.enum(['both', 'a', 'b', 'none']);

/** How the head turns embeddings into logits; what evaluation has to know. */
export const headSettingsSchema = localTrainingSchema.pick({ head: true, arcScale: true });

export type AugmentationSettings = z.infer<typeof augmentationSettingsSchema>;
export type LocalTraining = z.infer<typeof localTrainingSchema>;
export type HeadSettings = z.infer<typeof headSettingsSchema>;
export type TrainMode = z.infer<typeof trainModeSchema>;
