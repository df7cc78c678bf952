/** A few real training steps on random pixels, to compare devices and batch sizes. */
import { createRandom } from '../shared/random.ts';
import { floatTensor, type Tensor } from '../shared/tensor.ts';
import { loadEngine } from './engines.ts';
import { initialState } from './initial-state.ts';
import type { JobContext } from './job-context.ts';
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
  const shape = { ...graphShape(state, { batch: job.batchSize }), trainables, labelSmoothing: 0 };
  const engine = await loadEngine(job.engine);
  const compileStartMs = performance.now();
  const executable = await engine.compile(buildTrainingGraph(base, shape), {
    device: job.device,
    threads: job.threads,
  });
  const compileMs = performance.now() - compileStartMs;
  try {
    const feeds = { ...randomBatch(job.batchSize, base.inputSize), ...Object.fromEntries(parameters) };
    const stepsPerSecond = await countSteps(job, context, () => executable.run(feeds));
    return {
      stepsPerSecond,
      imagesPerSecond: stepsPerSecond * job.batchSize,
      compileMs,
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    await executable.release();
  }
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
