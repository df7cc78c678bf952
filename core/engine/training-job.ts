/** One site's local training: from a starting state and its pictures to a trained state file. */

import type { ModelState } from '../lora/model-state.ts';
import { encodeModelState } from '../lora/state-file.ts';
import type { BaseModel } from '../models/base-model.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { type FloatTensor, floatTensor, type Tensor } from '../shared/tensor.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';
import { countSteps, createBatchFiller, type Draw, drawBatches } from './batches.ts';
import type { Executable } from './engine.ts';
import { computeFeatures } from './features.ts';
import { type JobContext, openJob } from './job-context.ts';
import { createAdamW, type Optimiser, type ParameterGroup } from './optimiser.ts';
import type { LocalTraining, TrainJob, TrainResult } from './trainer-protocol.ts';
import {
  buildHeadTrainingGraph,
  buildTrainingGraph,
  gradientOutput,
  graphShape,
  stateParameters,
  trainableWeights,
  withParameters,
} from './training-graph.ts';

/** Parameters of a job: all that are fed, and which of them train. */
interface Parameters {
  all: Map<string, FloatTensor>;
  trainables: string[];
  /** Base weights that are fed instead of being built in: those of the state and those that train. */
  baseNames: string[];
  /** Base weights that train, and so are part of the result. */
  trainedWeights: string[];
}

/** Pictures that a class without any counts for: keeps the logarithm of its share finite. */
const absentClassCount = 0.1;

/** Feeds of one batch beside the parameters. */
type FeedBatch = (draws: readonly Draw[]) => Promise<Record<string, Tensor>>;

/**
 * Trains and writes `job.outFile` when complete; a failed or cancelled job writes nothing.
 * @throws AppError TRAINING_FAILED when the loss or a parameter stops being a finite number, and what {@link openJob} throws
 */
export async function runTrainJob(job: TrainJob, context: JobContext): Promise<TrainResult> {
  const startMs = performance.now();
  const { base, state } = await openJob(job);
  const parameters = collectParameters(job, base, state);
  const { executable, feedBatch } = await prepare(job, base, state, parameters, context);
  const steps = countSteps({ examples: job.examples.length, ...job.training });
  if (steps === 0) throw new AppError('CONFIG_INVALID', 'The training has no steps: raise its epochs.');
  const optimiser = createOptimiser(job.training, parameters, steps);
  const run = await runSteps(job, context, { executable, feedBatch, parameters, optimiser, steps });

  await context.pause();
  const trained = withParameters(state, parameters.all, parameters.trainedWeights);
  await writeResult(job.outFile, encodeModelState(trained));
  return {
    ...run,
    events: [],
    steps,
    examples: new Set(job.examples.map((example) => example.file)).size,
    wallMs: performance.now() - startMs,
  };
}

/** @throws AppError DISK_FULL | DATA_FOLDER_UNUSABLE */
async function writeResult(file: string, bytes: Uint8Array): Promise<void> {
  try {
    await writeFileAtomically(file, bytes);
  } catch (cause) {
    const error = toAppError(cause);
    if (error.code !== 'INTERNAL') throw error;
    throw new AppError('DATA_FOLDER_UNUSABLE', 'The trained state cannot be written to the data folder.', {
      cause,
    });
  }
}

/** Copies of everything that is fed; in `full` and `last-k` mode the base weights that train come from the base. */
function collectParameters(job: TrainJob, base: BaseModel, state: ModelState): Parameters {
  const all = new Map<string, FloatTensor>();
  for (const [name, { dims, data }] of stateParameters(state)) all.set(name, floatTensor(dims, data.slice()));
  const weights = trainableWeights(base, job.mode, job.lastK);
  for (const name of weights) {
    const { dims, data } = base.weights.get(name)!;
    if (!all.has(name)) all.set(name, floatTensor(dims, data.slice()));
  }
  const head = [...state.head.keys()].map((name) => `head.${name}`);
  const frozen = new Set([...head, ...state.base.keys()]);
  const factors = [...stateParameters(state).keys()].filter((name) => !frozen.has(name));
  const trainables = [...(job.mode === 'lora' ? factors : weights), ...head];
  return {
    all,
    trainables,
    baseNames: [...new Set([...state.base.keys(), ...weights])],
    trainedWeights: weights,
  };
}

/** Compiles the graph; a head alone on unchanging pictures trains on features computed once. */
async function prepare(
  job: TrainJob,
  base: BaseModel,
  state: ModelState,
  parameters: Parameters,
  context: JobContext,
): Promise<{ executable: Executable; feedBatch: FeedBatch }> {
  const { batchSize: batch, labelSmoothing, augment } = job.training;
  const { trainables } = parameters;
  const forward = graphShape(state, { batch, extraWeights: parameters.baseNames });
  const key = { base: base.sha256, ...forward, labelSmoothing };
  const options = { device: job.device, threads: job.threads };
  const filler = createBatchFiller(batch, base.inputSize);
  if (job.mode === 'head' && !augment) {
    const features = await computeFeatures(job, base, state, batch, context);
    const shape = { ...forward, lora: [], fedWeights: [], labelSmoothing };
    const headKey = { graph: 'head', base: base.sha256, ...shape };
    const executable = await context.executables.get(
      headKey,
      () => buildHeadTrainingGraph(base, shape),
      options,
    );
    return {
      executable,
      feedBatch: async (draws) => ({ ...filler.fillLabels(draws, job.examples), features: features(draws) }),
    };
  }
  const executable = await context.executables.get(
    { graph: 'train', ...key, trainables },
    () => buildTrainingGraph(base, { ...forward, trainables, labelSmoothing }),
    options,
  );
  return {
    executable,
    feedBatch: async (draws) => ({ ...(await filler.fill(draws, job.examples, context.crops)) }),
  };
}

function createOptimiser(training: LocalTraining, parameters: Parameters, steps: number): Optimiser {
  const { learningRate, headLearningRate, baseLearningRate } = training;
  const groups = new Map<string, ParameterGroup & { parameters: Map<string, Float32Array> }>();
  for (const name of parameters.trainables) {
    const { data, dims } = parameters.all.get(name)!;
    const isBase = parameters.trainedWeights.includes(name);
    const rate = name.startsWith('head.') ? headLearningRate : isBase ? baseLearningRate : learningRate;
    // Biases and the like do not decay.
    const weightDecay = dims.length < 2 ? 0 : training.weightDecay;
    const key = `${rate} ${weightDecay}`;
    const group = groups.get(key) ?? { learningRate: rate, weightDecay, parameters: new Map() };
    group.parameters.set(name, data);
    groups.set(key, group);
  }
  return createAdamW({ groups: [...groups.values()], steps, ...training });
}

interface Steps {
  executable: Executable;
  feedBatch: FeedBatch;
  parameters: Parameters;
  optimiser: Optimiser;
  steps: number;
}

async function runSteps(
  job: TrainJob,
  context: JobContext,
  { executable, feedBatch, parameters, optimiser, steps }: Steps,
): Promise<Pick<TrainResult, 'meanLoss' | 'imagesPerSecond'>> {
  const perStepFeeds = Object.fromEntries(
    parameters.trainables
      .concat(frozenInputs(job, parameters))
      .map((name) => [name, parameters.all.get(name)!]),
  );
  const classPrior = classPriorOf(job, parameters);
  const draws = drawBatches({
    examples: job.examples.length,
    epochs: job.training.epochs,
    batchSize: job.training.batchSize,
    seed: job.seed,
    augment: job.training.augment !== false,
  });
  const startMs = performance.now();
  let step = 0;
  let images = 0;
  let lossSum = 0;
  for (const batch of draws) {
    await context.pause();
    const outputs = await executable.run({ ...(await feedBatch(batch)), ...perStepFeeds, classPrior });
    const loss = (outputs['loss'] as FloatTensor).data[0]!;
    requireFinite(loss, step, steps);
    const gradients = new Map(
      parameters.trainables.map((name) => [name, (outputs[gradientOutput(name)] as FloatTensor).data]),
    );
    const { gradientNorm } = optimiser.step(gradients);
    requireFinite(gradientNorm, step, steps);
    step += 1;
    images += batch.length;
    lossSum += loss * batch.length;
    const imagesPerSecond = (1000 * images) / (performance.now() - startMs);
    context.onProgress({ step, steps, epoch: images / job.examples.length, loss, imagesPerSecond });
  }
  return { meanLoss: lossSum / images, imagesPerSecond: (1000 * images) / (performance.now() - startMs) };
}

/** Share of each class among the site's pictures; uniform without logit adjustment. */
function classPriorOf({ examples, training }: TrainJob, { all }: Parameters): FloatTensor {
  const classes = all.get('head.bias')!.data.length;
  const counts = new Float32Array(classes).fill(training.logitAdjustment ? absentClassCount : 1);
  if (training.logitAdjustment) for (const { label } of examples) counts[label]! += 1;
  const total = counts.reduce((sum, count) => sum + count, 0);
  return floatTensor(
    [classes],
    counts.map((count) => count / total),
  );
}

/** Parameters that the graph takes besides those that train; the head's own graph takes nothing else. */
function frozenInputs(job: TrainJob, { all, trainables }: Parameters): string[] {
  if (job.mode === 'head' && !job.training.augment) return [];
  const trained = new Set(trainables);
  return [...all.keys()].filter((name) => !trained.has(name));
}

function requireFinite(value: number, step: number, steps: number): void {
  if (Number.isFinite(value)) return;
  throw new AppError(
    'TRAINING_FAILED',
    `The training diverged at step ${step + 1} of ${steps}: the loss is no longer a number.`,
    { action: 'Start the run again with a lower learning rate.' },
  );
}
