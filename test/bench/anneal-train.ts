/**
 * Anneal's side of train.ts: real training steps on request, one JSON object per line.
 * Arguments: FOLDER THREADS MICRO_BATCH (0: what the trainer would choose) SPINNING (0 or 1).
 */
import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { writePlanes } from '../../core/engine/augmentation.ts';
import { computeParts } from '../../core/engine/batch-parts.ts';
import { planTraining } from '../../core/engine/compute-plan.ts';
import type { Executable } from '../../core/engine/engine.ts';
import { loadEngine } from '../../core/engine/engines.ts';
import { graphFacts } from '../../core/engine/graph-facts.ts';
import { imagesPerLane, threadsPerLane } from '../../core/engine/lanes.ts';
import { createAdamW, type Optimiser } from '../../core/engine/optimiser.ts';
import {
  buildTrainingGraph,
  gradientOutput,
  graphShape,
  stateParameters,
  withParameters,
} from '../../core/engine/training-graph.ts';
import { countFlops } from '../../core/graph/count-flops.ts';
import { decodeSafetensors, encodeSafetensors } from '../../core/lora/safetensors.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { type FloatTensor, floatTensor, type Tensor } from '../../core/shared/tensor.ts';
import {
  type Description,
  descriptionFile,
  descriptionSchema,
  imagesFile,
  parametersFile,
} from './description.ts';
import { requestSchema } from './messages.ts';
import { openModel } from './open-model.ts';
import { residentBytes } from './resident-memory.ts';

/** A schedule long enough that its rate hardly moves. */
const scheduleSteps = 1_000_000;

interface Side {
  description: Description;
  /** Held as the trainer process holds it between jobs; its memory counts. */
  base: BaseModel;
  executable: Executable;
  microBatch: number;
  images: Uint8Array;
  parameters: Map<string, FloatTensor>;
  feeds: {
    pixels: FloatTensor;
    labels: Tensor<'int64'>;
    sampleWeights: FloatTensor;
    classPrior: FloatTensor;
  };
  optimiser: Optimiser;
  stepNumber: number;
}

const [folder = '', threadsText = '', microBatchText = '', spinningText = ''] = process.argv.slice(2);
const engine = await loadEngine('onnxruntime');
const importedBytes = residentBytes('VmRSS');
const { side, ...facts } = await prepare();
reply({ type: 'ready', importedBytes, ...facts });
for await (const line of createInterface({ input: process.stdin })) {
  const request = requestSchema.parse(JSON.parse(line));
  if (request.type === 'exit') break;
  if (request.type === 'check') reply(await check(side, request.file));
  else reply(await runSteps(side, request.count));
}
await side.executable.release();

function reply(message: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify({ ...message, peakBytes: residentBytes('VmHWM') })}\n`);
}

async function prepare() {
  const startMs = performance.now();
  const text = await readFile(join(folder, descriptionFile), 'utf8');
  const description = descriptionSchema.parse(JSON.parse(text));
  const base = await openModel(description);
  const { modules, rank, scale, seed, batch } = description;
  const classes = Array.from({ length: description.classes }, (_, index) => `class ${index}`);
  const fresh = initialState(base, { classes, targetModules: modules, r: rank, scale, seed });
  const parameters = new Map(
    decodeSafetensors(await readFile(join(folder, parametersFile)), 'parameters').tensors,
  );
  const state = withParameters(fresh, parameters, []);
  const trainables = [...stateParameters(state).keys()];
  const build = (images: number) =>
    buildTrainingGraph(base, { ...graphShape(state, { batch: images }), trainables, labelSmoothing: 0 });
  const threads = Number(threadsText);
  const microBatchWish = Number(microBatchText) || undefined;
  const wishes = { engine: engine.name, device: 'cpu', threads, microBatch: microBatchWish } as const;
  const plan = planTraining(wishes, batch, (size) => graphFacts(build(size)));
  const microBatch = imagesPerLane(plan);
  const { lanes } = plan;
  const compileStartMs = performance.now();
  const graph = build(microBatch);
  const flopsPerStep = (countFlops(graph) * batch) / microBatch;
  const executable = await engine.compile(graph, {
    device: 'cpu',
    threads: threadsPerLane({ threads, lanes }),
    lanes,
    spinning: spinningText === '1',
  });
  const compileSeconds = (performance.now() - compileStartMs) / 1000;
  const side: Side = {
    description,
    base,
    executable,
    microBatch,
    images: readFileSync(join(folder, imagesFile)),
    parameters: stateParameters(state),
    feeds: createFeeds(description, microBatch),
    optimiser: createOptimiser(description, stateParameters(state)),
    stepNumber: 0,
  };
  const prepareSeconds = (performance.now() - startMs) / 1000;
  const versions = { node: process.versions.node, onnxruntime: runtimeVersion() };
  return { side, microBatch, lanes, prepareSeconds, compileSeconds, flopsPerStep, versions };
}

function runtimeVersion(): string {
  const file = new URL('../../node_modules/onnxruntime-node/package.json', import.meta.url);
  return String(JSON.parse(readFileSync(file, 'utf8')).version);
}

function createFeeds({ batch, side, classes }: Description, microBatch: number): Side['feeds'] {
  return {
    pixels: floatTensor([microBatch, 3, side, side]),
    labels: { dtype: 'int64', dims: [microBatch], data: new BigInt64Array(microBatch) },
    // The mean over the whole batch, whatever part of it is computed at once.
    sampleWeights: floatTensor([microBatch], new Float32Array(microBatch).fill(1 / batch)),
    classPrior: floatTensor([classes], new Float32Array(classes).fill(1 / classes)),
  };
}

function createOptimiser({ training }: Description, parameters: Map<string, FloatTensor>): Optimiser {
  const { learningRate, headLearningRate, weightDecay, clipNorm } = training;
  const group = (rate: number, decay: number, matches: (name: string) => boolean) => ({
    learningRate: rate,
    weightDecay: decay,
    parameters: new Map(
      [...parameters].filter(([name]) => matches(name)).map(([name, { data }]) => [name, data] as const),
    ),
  });
  const groups = [
    group(learningRate, weightDecay, (name) => !name.startsWith('head.')),
    group(headLearningRate, weightDecay, (name) => name === 'head.weight'),
    group(headLearningRate, 0, (name) => name === 'head.bias'),
  ];
  return createAdamW({ groups, steps: scheduleSteps, warmupShare: 0, clipNorm, proximal: 0 });
}

/** Writes the images of one part of a step's batch into the feeds. */
function fill({ description, feeds, images, microBatch }: Side, step: number, start: number): void {
  const size = 3 * description.side ** 2;
  for (let slot = 0; slot < microBatch; slot++) {
    const image = (step * description.batch + start + slot) % description.images;
    const crop = images.subarray(image * size, (image + 1) * size);
    writePlanes(crop, description.side, feeds.pixels.data.subarray(slot * size, (slot + 1) * size));
    feeds.labels.data[slot] = BigInt(image % description.classes);
  }
}

/** The parts of a step's batch, as the product cuts it; the same feeds are filled for each. */
async function* partsOf(side: Side, step: number) {
  const { description, microBatch, feeds, parameters } = side;
  for (let start = 0; start < description.batch; start += microBatch) {
    fill(side, step, start);
    const last = start + microBatch >= description.batch;
    yield { part: { last }, feeds: { ...feeds, ...Object.fromEntries(parameters) } };
  }
}

/** Loss and gradients of one batch, summed over its parts. */
async function gradientsOf(
  side: Side,
  step: number,
): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const { executable, parameters } = side;
  const gradients = new Map<string, Float32Array>();
  let loss = 0;
  for await (const { outputs } of computeParts(executable, partsOf(side, step), async () => {})) {
    loss += (outputs['loss'] as FloatTensor).data[0]!;
    for (const name of parameters.keys()) {
      const { data } = outputs[gradientOutput(name)] as FloatTensor;
      const sum = gradients.get(name);
      // Copied: a lane uses the memory of its results again.
      if (sum === undefined) gradients.set(name, data.slice());
      else for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + data[i]!;
    }
  }
  return { loss, gradients };
}

async function check(side: Side, file: string): Promise<Record<string, unknown>> {
  const { loss, gradients } = await gradientsOf(side, 0);
  const tensors = new Map(
    [...gradients].map(([name, data]) => [name, floatTensor(side.parameters.get(name)!.dims, data)] as const),
  );
  await writeFile(file, encodeSafetensors(tensors, {}));
  return { type: 'checked', loss };
}

async function runSteps(side: Side, count: number): Promise<Record<string, unknown>> {
  let optimiserMs = 0;
  let loss = 0;
  const startMs = performance.now();
  for (let step = 0; step < count; step++) {
    const result = await gradientsOf(side, side.stepNumber);
    loss = result.loss;
    const beforeMs = performance.now();
    side.optimiser.step(result.gradients);
    optimiserMs += performance.now() - beforeMs;
    side.stepNumber += 1;
  }
  const seconds = (performance.now() - startMs) / 1000;
  return { type: 'stepped', seconds, optimiserSeconds: optimiserMs / 1000, loss };
}
