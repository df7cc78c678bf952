/**
 * Messages between the agent and the forked trainer process. Both ends parse them with these schemas.
 * Images and states travel as file paths inside the data folder, never as bytes in a message.
 */
import { z } from 'zod';
import {
  headSettingsSchema,
  localTrainingSchema,
  trainedFactorsSchema,
  trainModeSchema,
} from '../config/local-training.ts';
import { evaluationCountsSchema } from '../evaluation/check-counts.ts';
import { AppError } from '../shared/errors.ts';
import { deviceKinds, engineNames } from './engine.ts';

export { type LocalTraining, localTrainingSchema } from '../config/local-training.ts';

/** One image: an aligned, square RGB crop (core/data/crop-file.ts), and its class index. It is scaled to the base model's input size. */
const exampleSchema = z.object({
  file: z.string(),
  label: z.number().int().nonnegative(),
  /** Of the file; not looked at when absent. */
  sha256: z.string().optional(),
});

const jobBase = {
  /** Catalogue id of the base model, for instance `face-resnet-128`. */
  baseId: z.string(),
  /** The state to start from (a model-state safetensors file). */
  stateFile: z.string(),
  /** Of that file; not looked at when absent. */
  stateSha256: z.string().optional(),
  examples: z.array(exampleSchema),
  engine: z.enum(engineNames).default('onnxruntime'),
  device: z.enum(deviceKinds),
  threads: z.number().int().positive(),
  /** Images computed at once; a batch is cut into such parts. Chosen by the memory when absent. */
  microBatch: z.number().int().positive().optional(),
  /** Memory that a step may take; half of the computer's when absent. */
  memoryBudgetBytes: z.number().positive().optional(),
};

export const trainJobSchema = z.object({
  ...jobBase,
  mode: trainModeSchema,
  /** How many of the last blocks train when mode is `last-k`. */
  lastK: z.number().int().nonnegative().default(0),
  trains: trainedFactorsSchema.default('both'),
  /** Where the trained state is written (atomically, only when complete). */
  outFile: z.string(),
  training: localTrainingSchema.required(),
  seed: z.number().int(),
  /**
   * Where the run keeps its state while it goes on, so that a job which is given again goes on from there.
   * Deleted when the result is written. None when absent.
   */
  checkpointFile: z.string().optional(),
  /** Time between two checkpoints; longer when writing one takes long. */
  checkpointSeconds: z.number().nonnegative().default(60),
});

/** `label`: class number in the gallery, where classes that the run does not train come after its own. `subject`: a number of this job. */
const galleryExampleSchema = exampleSchema.extend({ subject: z.number().int().nonnegative() });
/** `leavesOut`: the gallery is without the other images of its subject. */
const galleryQuerySchema = galleryExampleSchema.extend({ leavesOut: z.boolean() });

export const evaluateJobSchema = z.object({
  ...jobBase,
  ...headSettingsSchema.shape,
  batchSize: z.number().int().positive(),
  /** Each image counts by the mean of what it and its mirror image give. */
  flip: z.boolean().default(false),
  /** Looks each example up in this gallery, too: the run's classes among themselves, `rare` among all. */
  gallery: z.object({ images: z.array(galleryExampleSchema), rare: z.array(galleryQuerySchema) }).optional(),
});

/** The head's start: one pass over the images, without a gradient. The result is that of training: a state file. */
export const prototypeJobSchema = z.object({
  ...jobBase,
  /** `isSummed`: false for an image that is no part of a sum (core/site/class-sums.ts). */
  examples: z.array(galleryExampleSchema.extend({ isSummed: z.boolean() })),
  batchSize: z.number().int().positive(),
  /** Classes with fewer subjects send nothing. */
  smallCell: z.number().int().positive(),
  /** By what all sums are divided. */
  divisor: z.number().positive(),
  outFile: z.string(),
});

/** A few real training steps with random pixels, to compare devices. */
const measureJobSchema = z.object({
  baseId: z.string(),
  engine: z.enum(engineNames).default('onnxruntime'),
  device: z.enum(deviceKinds),
  threads: z.number().int().positive(),
  batchSize: z.number().int().positive(),
  /** Steps that count; the first one, which also allocates, comes before them. */
  steps: z.number().int().positive(),
  /** Stops after the step in which this much time has passed. */
  timeLimitMs: z.number().positive().optional(),
});

/**
 * Something that did not go as asked, and what the run did about it.
 * `resumed`: went on from a checkpoint. `smaller-batch`: less memory. `device-changed`: to the processor.
 * `retried`: a step was computed again. `restarted`: the trainer process ended and was started again.
 * `lane-ended`: one of several threads that compute parts of a batch was lost. `checkpoint-failed`: no checkpoint could
 * be written. `checkpoint-damaged`: one could not be used, and the run began anew.
 */
export const trainEventSchema = z.object({
  kind: z.enum([
    'resumed',
    'smaller-batch',
    'device-changed',
    'retried',
    'lane-ended',
    'restarted',
    'checkpoint-failed',
    'checkpoint-damaged',
  ]),
  /** One plain sentence. */
  message: z.string(),
  /** What changed, from and to; for instance devices or images computed at once. Empty when nothing did. */
  from: z.string(),
  to: z.string(),
});

const trainProgressSchema = z.object({
  step: z.number().int(),
  steps: z.number().int(),
  epoch: z.number(),
  loss: z.number(),
  imagesPerSecond: z.number(),
  /** All events of the run so far. */
  events: z.array(trainEventSchema).optional(),
});

export const trainResultSchema = z.object({
  meanLoss: z.number(),
  steps: z.number().int(),
  /** Distinct training images: the weight of this site in aggregation. */
  examples: z.number().int(),
  imagesPerSecond: z.number(),
  wallMs: z.number(),
  events: z.array(trainEventSchema).default([]),
  /** Of the file that was written; a trainer process always says it. */
  outSha256: z.string().optional(),
});

export const evaluateResultSchema = z.object({
  correct: z.number().int(),
  total: z.number().int(),
  meanLoss: z.number(),
  /** In full: they stay at the site. */
  counts: evaluationCountsSchema,
  events: z.array(trainEventSchema).optional(),
});

export const measureResultSchema = z.object({
  stepsPerSecond: z.number(),
  imagesPerSecond: z.number(),
  /** Building the graph and preparing it for the device. */
  compileMs: z.number(),
  /** Of the trainer process since its start: only a fresh process gives this measurement's own. */
  peakMemoryBytes: z.number(),
});

const jobId = z.string();
export const trainerRequestSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('train'), id: jobId, job: trainJobSchema }),
  z.object({ type: z.literal('evaluate'), id: jobId, job: evaluateJobSchema }),
  z.object({ type: z.literal('prototypes'), id: jobId, job: prototypeJobSchema }),
  z.object({ type: z.literal('measure'), id: jobId, job: measureJobSchema }),
  z.object({ type: z.literal('cancel'), id: jobId }),
]);

export const trainerReplySchema = z.discriminatedUnion('type', [
  /** Before the first step: what a job that runs out of memory now was about to compute at once. */
  z.object({ type: z.literal('prepared'), id: jobId, microBatch: z.number().int().positive() }),
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
export type TrainJob = z.infer<typeof trainJobSchema>;
export type EvaluateJob = z.infer<typeof evaluateJobSchema>;
export type GalleryExample = z.infer<typeof galleryExampleSchema>;
export type Gallery = NonNullable<EvaluateJob['gallery']>;
export type PrototypeJob = z.infer<typeof prototypeJobSchema>;
export type MeasureJob = z.infer<typeof measureJobSchema>;
export type TrainEvent = z.infer<typeof trainEventSchema>;
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
  prototypes(job: z.input<typeof prototypeJobSchema>, options?: JobOptions): Promise<TrainResult>;
  measure(job: z.input<typeof measureJobSchema>, options?: JobOptions): Promise<MeasureResult>;
  close(): Promise<void>;
}

export interface JobOptions {
  onProgress?: (progress: TrainProgress) => void;
  /** Aborting cancels the job between two steps; it rejects with AppError TRAINING_CANCELLED. */
  signal?: AbortSignal;
}

/** What an aborted job rejects with. */
export const cancelled = (): AppError => new AppError('TRAINING_CANCELLED', 'The training was cancelled.');
