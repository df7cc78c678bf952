/**
 * Messages between the agent and the forked trainer process. Both ends parse them with these schemas.
 * Pictures and states travel as file paths inside the data folder, never as bytes in a message.
 */
import { z } from 'zod';
import { deviceKinds, engineNames } from './engine.ts';

/** One picture: an aligned RGB crop (PNG) of the base model's input size, and its class index. */
export const exampleSchema = z.object({ file: z.string(), label: z.number().int().nonnegative() });

export const trainModeSchema = z.enum(['head', 'lora', 'full', 'last-k']);

/** Hyper-parameters of local training that the coordinator decides. */
export const localTrainingSchema = z.object({
  epochs: z.number().positive(),
  batchSize: z.number().int().positive(),
  learningRate: z.number().positive(),
  /** Learning rate of the classification head. */
  headLearningRate: z.number().positive(),
  /** Learning rate of base weights in `full` and `last-k` rounds; pretrained weights want a gentle one. */
  baseLearningRate: z.number().positive(),
  /** Decoupled weight decay (AdamW). */
  weightDecay: z.number().nonnegative(),
  /** Share of the steps over which the rate rises linearly from 0. */
  warmupShare: z.number().min(0).max(1),
  /** Global-norm clipping; 0 means none. */
  clipNorm: z.number().nonnegative(),
  /** λ of the proximal pull λ(θ − θ_global); 0 means none. */
  proximal: z.number().nonnegative(),
  /** Horizontal flip, small rotation, shift and light changes. */
  augment: z.boolean(),
  labelSmoothing: z.number().min(0).max(0.5),
  /**
   * Adds the logarithm of the site's own class shares to the logits in the loss (Menon et al. 2021, arXiv
   * 2007.07314; for federated learning Zhang et al. 2022, arXiv 2209.00189). A site then does not push away
   * the classes that it hardly has, which is what makes sites with different classes drift apart.
   */
  logitAdjustment: z.boolean(),
});

const jobBase = {
  /** Catalogue id of the base model, for instance `face-resnet-128`. */
  baseId: z.string(),
  /** The state to start from (a model-state safetensors file). */
  stateFile: z.string(),
  examples: z.array(exampleSchema),
  engine: z.enum(engineNames).default('onnxruntime'),
  device: z.enum(deviceKinds),
  threads: z.number().int().positive(),
};

export const trainJobSchema = z.object({
  ...jobBase,
  mode: trainModeSchema,
  /** How many of the last blocks train when mode is `last-k`. */
  lastK: z.number().int().nonnegative().default(0),
  /** Where the trained state is written (atomically, only when complete). */
  outFile: z.string(),
  training: localTrainingSchema,
  seed: z.number().int(),
});

export const evaluateJobSchema = z.object({ ...jobBase, batchSize: z.number().int().positive() });

/** A few real training steps with random pixels, to compare devices. */
export const measureJobSchema = z.object({
  baseId: z.string(),
  engine: z.enum(engineNames).default('onnxruntime'),
  device: z.enum(deviceKinds),
  threads: z.number().int().positive(),
  batchSize: z.number().int().positive(),
  steps: z.number().int().positive(),
});

export const trainProgressSchema = z.object({
  step: z.number().int(),
  steps: z.number().int(),
  epoch: z.number(),
  loss: z.number(),
  imagesPerSecond: z.number(),
});

export const trainResultSchema = z.object({
  meanLoss: z.number(),
  steps: z.number().int(),
  /** Distinct training pictures: the weight of this site in aggregation. */
  examples: z.number().int(),
  imagesPerSecond: z.number(),
  wallMs: z.number(),
});

export const evaluateResultSchema = z.object({
  correct: z.number().int(),
  total: z.number().int(),
  meanLoss: z.number(),
  /** By class index: how many held-out pictures and how many of them were right. */
  perClass: z.array(z.object({ correct: z.number().int(), total: z.number().int() })),
});

export const measureResultSchema = z.object({ imagesPerSecond: z.number(), peakMemoryBytes: z.number() });

const jobId = z.string();
export const trainerRequestSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('train'), id: jobId, job: trainJobSchema }),
  z.object({ type: z.literal('evaluate'), id: jobId, job: evaluateJobSchema }),
  z.object({ type: z.literal('measure'), id: jobId, job: measureJobSchema }),
  z.object({ type: z.literal('cancel'), id: jobId }),
]);

export const trainerReplySchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('progress'), id: jobId, progress: trainProgressSchema }),
  z.object({
    type: z.literal('done'),
    id: jobId,
    result: z.union([trainResultSchema, evaluateResultSchema, measureResultSchema]),
  }),
  z.object({
    type: z.literal('failed'),
    id: jobId,
    error: z.object({ code: z.string(), message: z.string(), action: z.string() }),
  }),
]);

export type Example = z.infer<typeof exampleSchema>;
export type TrainMode = z.infer<typeof trainModeSchema>;
export type LocalTraining = z.infer<typeof localTrainingSchema>;
export type TrainJob = z.infer<typeof trainJobSchema>;
export type EvaluateJob = z.infer<typeof evaluateJobSchema>;
export type MeasureJob = z.infer<typeof measureJobSchema>;
export type TrainProgress = z.infer<typeof trainProgressSchema>;
export type TrainResult = z.infer<typeof trainResultSchema>;
export type EvaluateResult = z.infer<typeof evaluateResultSchema>;
export type MeasureResult = z.infer<typeof measureResultSchema>;
/** As it is sent: settings with a default may be missing. */
export type TrainerRequest = z.input<typeof trainerRequestSchema>;
/** As it is received. */
export type ReceivedRequest = z.output<typeof trainerRequestSchema>;
export type TrainerReply = z.infer<typeof trainerReplySchema>;

/** The agent's end of a trainer process; one job at a time, further ones wait. */
export interface Trainer {
  train(job: z.input<typeof trainJobSchema>, options?: JobOptions): Promise<TrainResult>;
  evaluate(job: z.input<typeof evaluateJobSchema>, options?: JobOptions): Promise<EvaluateResult>;
  measure(job: z.input<typeof measureJobSchema>, options?: JobOptions): Promise<MeasureResult>;
  close(): Promise<void>;
}

export interface JobOptions {
  onProgress?: (progress: TrainProgress) => void;
  /** Aborting cancels the job between two steps; it rejects with AppError TRAINING_CANCELLED. */
  signal?: AbortSignal;
}
