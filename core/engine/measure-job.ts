/** A few real training steps on random pixels, to compare devices and batch sizes. */
import { initialState } from '../models/initial-state.ts';
import { createRandom } from '../shared/random.ts';
import { floatTensor, type Tensor } from '../shared/tensor.ts';
import { planTraining } from './compute-plan.ts';
import type { Executable } from './engine.ts';
import { loadEngine } from './engines.ts';
import { graphFacts } from './graph-facts.ts';
import type { JobContext } from './job-context.ts';
import { imagesPerLane, threadsPerLane } from './lanes.ts';
import type { MeasureJob, MeasureResult } from './trainer-protocol.ts';
import { buildTrainingGraph, graphShape, stateParameters } from './training-graph.ts';

/** What a typical run trains. */
const rank = 8;
const classes = ['a', 'b', 'c', 'd'];

/**
 * Compiles for itself alone, on the engine that the job names. The first step is not counted: it allocates, and
 * graphics processors compile their programs in it.
 * @throws AppError DEVICE_UNAVAILABLE | TRAINING_FAILED | MODEL_UNKNOWN
 */
export async function runMeasureJob(job: MeasureJob, context: JobContext): Promise<MeasureResult> {
  const base = await context.loadBase(job.baseId);
  const state = initialState(base, { classes, targetModules: 'default', r: rank, scale: 1, seed: 0 });
  const parameters = stateParameters(state);
  const trainables = [...parameters.keys()];
  const build = (batch: number) =>
    buildTrainingGraph(base, { ...graphShape(state, { batch }), trainables, labelSmoothing: 0 });
  const engine = await loadEngine(job.engine);
  const wishes = { ...job, microBatch: job.batchSize };
  const plan = planTraining(wishes, job.batchSize, (batch) => graphFacts(build(batch)));
  const size = imagesPerLane(plan);
  const compileStartMs = performance.now();
  const executable = await engine.compile(build(size), {
    device: job.device,
    threads: threadsPerLane({ threads: job.threads, lanes: plan.lanes }),
    lanes: plan.lanes,
  });
  const compileMs = performance.now() - compileStartMs;
  try {
    const feeds = { ...randomBatch(size, base.inputSize), ...Object.fromEntries(parameters) };
    const runsPerSecond = await countSteps(job, context, () => runLanes(executable, feeds));
    const imagesPerSecond = runsPerSecond * size * plan.lanes;
    return {
      stepsPerSecond: imagesPerSecond / job.batchSize,
      imagesPerSecond,
      compileMs,
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    await executable.release();
  }
}

/** The same images in every lane. */
async function runLanes(executable: Executable, feeds: Record<string, Tensor>): Promise<void> {
  const beside = (executable.beside ?? []).map((lane) => lane.start(feeds));
  const outcomes = await Promise.allSettled([...beside, executable.run(feeds)]);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

async function countSteps(
  job: MeasureJob,
  context: JobContext,
  step: () => Promise<unknown>,
): Promise<number> {
  await step();
  const startMs = performance.now();
  let steps = 0;
  do {
    await context.pause();
    await step();
    steps++;
  } while (steps < job.steps && performance.now() - startMs < (job.timeLimitMs ?? Infinity));
  return (1000 * steps) / (performance.now() - startMs);
}

/** What a training graph is fed besides its parameters: random pixels, labels in turn, equal weights. */
function randomBatch(batchSize: number, inputSize: number): Record<string, Tensor> {
  const random = createRandom(0);
  const pixels = floatTensor([batchSize, 3, inputSize, inputSize]);
  for (let i = 0; i < pixels.data.length; i++) pixels.data[i] = random.integer(256);
  const labels: Tensor<'int64'> = {
    dtype: 'int64',
    dims: [batchSize],
    data: BigInt64Array.from({ length: batchSize }, (_, i) => BigInt(i % classes.length)),
  };
  const sampleWeights = floatTensor([batchSize], new Float32Array(batchSize).fill(1 / batchSize));
  const classPrior = floatTensor([classes.length], new Float32Array(classes.length).fill(1 / classes.length));
  return { pixels, labels, sampleWeights, classPrior };
}
