/** A training job made ready for a device: its compiled graph and the row of inputs that it is run on. */
import type { Graph } from '../graph/graph.ts';
import type { ModelState } from '../lora/model-state.ts';
import { encodeSafetensors } from '../lora/safetensors.ts';
import type { BaseModel } from '../models/base-model.ts';
import { withReplacedWeights } from '../models/replaced-weights.ts';
import { sha256 } from '../shared/hash.ts';
import { type FloatTensor, floatTensor, type Tensor } from '../shared/tensor.ts';
import { augmentationOf } from './augmentation.ts';
import { cutBatch, drawBatches, type MicroBatch } from './batches.ts';
import { classPrior, classWeights } from './class-weights.ts';
import { cropShapeOf } from './crops.ts';
import type { Executable } from './engine.ts';
import type { ComputePlan } from './fallback.ts';
import { computeFeatures, type FeatureTable } from './features.ts';
import type { GraphFacts } from './graph-facts.ts';
import type { JobContext } from './job-context.ts';
import { imagesPerLane, threadsPerLane } from './lanes.ts';
import { readAhead } from './read-ahead.ts';
import type { TrainJob } from './trainer-protocol.ts';
import {
  buildFeatureGraph,
  buildHeadTrainingGraph,
  buildTrainingGraph,
  graphShape,
  type TrainingGraphShape,
} from './training-graph.ts';
import { createMaskFeeds, createPartFeeds } from './training-inputs.ts';
import { arcOf, type TrainingParameters } from './training-parameters.ts';

/** A job with all that it was opened with. */
export interface TrainingSetup {
  job: TrainJob;
  context: JobContext;
  base: BaseModel;
  state: ModelState;
  parameters: TrainingParameters;
  /** Features of a head-only job; computed by the first program that needs them. */
  features?: FeatureTable;
}

export interface TrainingProgram {
  executable: Executable;
  /** Parts from the first batch that is not done, each with all feeds of the graph; feeds are used again. */
  parts(doneSteps: number): AsyncGenerator<{ part: MicroBatch; feeds: Record<string, Tensor> }>;
}

/** A head alone on images that do not change needs their embeddings once. */
export function usesFeatures({ mode, training }: TrainJob): boolean {
  return mode === 'head' && training.augment === false;
}

/** Of the graph whose values take most of a step's memory. */
export function stepFacts(setup: TrainingSetup, batch: number): GraphFacts {
  const { base, context } = setup;
  const shape = trainingShape(setup, batch);
  const ofFeatures = usesFeatures(setup.job);
  const key = { graph: ofFeatures ? 'features' : 'train', base: base.sha256, ...shape };
  return context.executables.facts(key, () =>
    ofFeatures ? buildFeatureGraph(base, shape) : buildTrainingGraph(baseInGraph(setup), shape),
  );
}

function trainingShape({ job, state, parameters }: TrainingSetup, batch: number): TrainingGraphShape {
  const { training } = job;
  const arc = arcOf(training, training.arcMargin);
  const dropout = job.mode === 'lora' ? training.loraDropout : 0;
  return {
    // Those of the state's base weights that are fed are among these names.
    ...graphShape({ ...state, base: new Map() }, { batch, extraWeights: parameters.baseNames, arc }),
    trainables: parameters.trainables,
    labelSmoothing: training.labelSmoothing,
    ...(dropout === 0 ? {} : { loraDropout: dropout }),
  };
}

/** The base model with those weights of the state in it that the graph holds instead of taking. */
function baseInGraph({ base, parameters }: TrainingSetup): BaseModel {
  return withReplacedWeights(base, parameters.builtIn);
}

/** @throws AppError what compiling throws; IMAGE_UNREADABLE for a head-only job */
export function prepareProgram(setup: TrainingSetup, plan: ComputePlan): Promise<TrainingProgram> {
  return usesFeatures(setup.job) ? prepareHead(setup, plan) : prepareWhole(setup, plan);
}

async function prepareWhole(setup: TrainingSetup, plan: ComputePlan): Promise<TrainingProgram> {
  const { job, context, base, parameters } = setup;
  const size = imagesPerLane(plan);
  const shape = trainingShape(setup, size);
  const key = { graph: 'train', base: base.sha256, builtIn: contentsOf(parameters.builtIn), ...shape };
  const { executable, inputTypes } = await compile(setup, plan, key, () =>
    buildTrainingGraph(baseInGraph(setup), shape),
  );
  const fixed = { ...Object.fromEntries(parameters.all), classPrior: priorOf(setup) };
  const part = createPartFeeds(size, job.examples);
  const masks = createMaskFeeds(inputTypes, {
    modules: shape.lora.map(({ module }) => module),
    microBatch: size,
    batchSize: job.training.batchSize,
    probability: shape.loraDropout ?? 0,
    seed: job.seed,
  });
  const samplesOf = ({ draws }: MicroBatch) =>
    draws.map(({ index, augmentation }) => ({ ...job.examples[index]!, augmentation }));

  async function* parts(doneSteps: number) {
    const source = remainingParts(setup, size, doneSteps);
    const ahead = { crop: cropShapeOf(base), slots: size, together: plan.lanes };
    const rest = readAhead(context.pixels, source, samplesOf, ahead);
    let step = doneSteps;
    for await (const { batch, pixels } of rest) {
      yield { part: batch, feeds: { ...fixed, ...part.fill(batch), ...masks.fill(step, batch), pixels } };
      if (batch.last) step += 1;
    }
  }
  return { executable, parts };
}

async function prepareHead(setup: TrainingSetup, plan: ComputePlan): Promise<TrainingProgram> {
  const { job, base, parameters } = setup;
  const { microBatch } = plan;
  setup.features ??= await computeFeatures(setup, plan);
  const table = setup.features;
  const { loraDropout: _none, ...whole } = trainingShape(setup, microBatch);
  const shape = { ...whole, lora: [], fedWeights: [] };
  const key = { graph: 'head', base: base.sha256, ...shape };
  const { executable } = await compile(setup, plan, key, () => buildHeadTrainingGraph(base, shape));
  const fixed = {
    ...Object.fromEntries(parameters.trainables.map((name) => [name, parameters.all.get(name)!])),
    classPrior: priorOf(setup),
  };
  const part = createPartFeeds(microBatch, job.examples);
  const features = floatTensor([microBatch, base.embeddingSize]);

  async function* parts(doneSteps: number) {
    for (const next of remainingParts(setup, microBatch, doneSteps)) {
      table.copyRows(next.draws, features.data);
      yield { part: next, feeds: { ...fixed, ...part.fill(next), features } };
    }
  }
  return { executable, parts };
}

function compile(
  { job, context }: TrainingSetup,
  { device, lanes }: ComputePlan,
  key: object,
  build: () => Graph,
) {
  const threads = threadsPerLane({ threads: job.threads, lanes });
  return context.executables.get(key, build, { engine: job.engine, device, threads, lanes });
}

/** SHA-256 of tensors by name; null of none. */
function contentsOf(tensors: ReadonlyMap<string, FloatTensor>): string | null {
  return tensors.size === 0 ? null : sha256(encodeSafetensors(tensors, {}));
}

/** Parts of all batches but the first `doneSteps`, whose random numbers are drawn and dropped. */
function* remainingParts({ job, state }: TrainingSetup, size: number, doneSteps: number) {
  const { training, examples, seed } = job;
  const weights = classWeights(
    examples.map(({ label }) => label),
    state.classes.length,
    training.classWeights,
  );
  const batches = drawBatches({
    examples: examples.length,
    epochs: training.epochs,
    batchSize: training.batchSize,
    seed,
    augmentation: augmentationOf(training.augment),
  });
  let step = 0;
  for (const batch of batches) {
    if (step++ < doneSteps) continue;
    yield* cutBatch(batch, size, ({ index }) => weights[examples[index]!.label]!);
  }
}

function priorOf({ job, state }: TrainingSetup): FloatTensor {
  const labels = job.examples.map(({ label }) => label);
  const classes = state.classes.length;
  return floatTensor([classes], classPrior(labels, classes, job.training.logitAdjustment));
}
