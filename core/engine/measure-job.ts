/** A few real training steps on random pixels, to compare devices and batch sizes. */
import { loadBaseModel } from '../models/catalogue.ts';
import { createRandom } from '../shared/random.ts';
import { floatTensor, type Tensor } from '../shared/tensor.ts';
import { initialState } from './initial-state.ts';
import type { JobContext } from './job-context.ts';
import type { MeasureJob, MeasureResult } from './trainer-protocol.ts';
import { buildTrainingGraph, graphShape, stateParameters } from './training-graph.ts';

/** What a typical run trains. */
const rank = 8;
const classes = ['a', 'b', 'c', 'd'];

/** The first step is not counted: it allocates. @throws AppError DEVICE_UNAVAILABLE | TRAINING_FAILED */
export async function runMeasureJob(job: MeasureJob, context: JobContext): Promise<MeasureResult> {
  const base = await loadBaseModel(job.baseId);
  const state = initialState(base, { classes, targetModules: 'default', r: rank, scale: 1, seed: 0 });
  const parameters = stateParameters(state);
  const trainables = [...parameters.keys()];
  const shape = { ...graphShape(state, { batch: job.batchSize }), trainables, labelSmoothing: 0 };
  const compileStartMs = performance.now();
  const executable = await context.executables.get(
    { graph: 'train', base: base.sha256, ...shape },
    () => buildTrainingGraph(base, shape),
    { device: job.device, threads: job.threads },
  );
  const compileMs = performance.now() - compileStartMs;
  const random = createRandom(0);
  const pixels = floatTensor([job.batchSize, 3, base.inputSize, base.inputSize]);
  for (let i = 0; i < pixels.data.length; i++) pixels.data[i] = random.integer(256);
  const labels: Tensor<'int64'> = {
    dtype: 'int64',
    dims: [job.batchSize],
    data: BigInt64Array.from({ length: job.batchSize }, (_, i) => BigInt(i % classes.length)),
  };
  const sampleWeights = floatTensor([job.batchSize], new Float32Array(job.batchSize).fill(1 / job.batchSize));
  const classPrior = floatTensor([classes.length], new Float32Array(classes.length).fill(1 / classes.length));
  const feeds = { pixels, labels, sampleWeights, classPrior, ...Object.fromEntries(parameters) };
  await executable.run(feeds);
  const startMs = performance.now();
  let steps = 0;
  while (steps < job.steps && performance.now() - startMs < (job.timeLimitMs ?? Infinity)) {
    await context.pause();
    await executable.run(feeds);
    steps++;
  }
  const stepsPerSecond = (1000 * steps) / (performance.now() - startMs);
  return {
    stepsPerSecond,
    imagesPerSecond: stepsPerSecond * job.batchSize,
    compileMs,
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
  };
}
