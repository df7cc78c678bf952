/**
 * Faults during training. The engine here is a stand-in around the real ONNX Runtime: it computes everything on
 * the processor, whatever device is asked for, and fails where a test wants it to.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CompileOptions, Engine, Executable } from '../../core/engine/engine.ts';
import { runEvaluateJob } from '../../core/engine/evaluation-job.ts';
import { createExecutableCache } from '../../core/engine/executable-cache.ts';
import type { JobContext } from '../../core/engine/job-context.ts';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import { createPixelSource, type PixelSource } from '../../core/engine/pixel-source.ts';
import type { Example, TrainJob } from '../../core/engine/trainer-protocol.ts';
import { runTrainJob } from '../../core/engine/training-job.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { AppError } from '../../core/shared/errors.ts';
import { floatTensor, type Tensor } from '../../core/shared/tensor.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { largestDifference, shapeJob, writeShapeCrops, writeShapeStart } from '../fixtures/shape-crops.ts';

type Outputs = Record<string, Tensor>;
interface Run {
  device: string;
  /** Images of the graph. */
  batch: number;
  /** Runs on any device before this one. */
  number: number;
}
/** Throws, or changes what was computed. */
type Fault = (run: Run, outputs: Outputs) => Outputs | undefined;

function faultyEngineStandIn(fault: Fault): Engine {
  const real = createOnnxRuntimeEngine();
  let number = 0;
  return {
    name: 'onnxruntime',
    devices: () => real.devices(),
    async compile(graph: Graph, options: CompileOptions): Promise<Executable> {
      const executable = await real.compile(graph, { ...options, device: 'cpu' });
      const batch = graph.types.get('pixels')!.dims[0]!;
      return {
        async run(feeds) {
          const outputs = await executable.run(feeds);
          return fault({ device: options.device, batch, number: number++ }, outputs) ?? outputs;
        },
        release: () => executable.release(),
      };
    },
  };
}

const outOfMemory = () =>
  new AppError('TRAINING_FAILED', 'A training step failed in ONNX Runtime.', {
    cause: new Error('Non-zero status code returned while running Conv node. Failed to allocate memory'),
  });
const deviceLost = () => new AppError('DEVICE_UNAVAILABLE', 'The graphics processor stopped answering.');
const notANumber = () => ({ loss: floatTensor([], Float32Array.of(Number.NaN)) });

let folder: string;
let stateFile: string;
let examples: Example[];
let undisturbed: Buffer;
let pixels: PixelSource;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-fallback-'));
  pixels = createPixelSource(64 * 2 ** 20);
  stateFile = await writeShapeStart(folder, 'level-256');
  examples = await writeShapeCrops(path.join(folder, 'crops'), 4, 1);
  await train('undisturbed', {}, () => undefined);
  undisturbed = await readFile(out('undisturbed'));
});
afterAll(async () => {
  await pixels?.close();
  await rm(folder, { recursive: true, force: true });
});

const out = (name: string) => path.join(folder, `${name}.safetensors`);

function contextWith(fault: Fault): JobContext & { prepared: number[] } {
  const engine = faultyEngineStandIn(fault);
  const prepared: number[] = [];
  return {
    executables: createExecutableCache(async () => engine, 4),
    pixels,
    loadBase: loadBaseModel,
    onProgress: () => {},
    onPrepared: (microBatch) => prepared.push(microBatch),
    pause: async () => {},
    prepared,
  };
}

/** Four steps of six images. */
async function train(name: string, changes: Partial<Omit<TrainJob, 'training'>>, fault: Fault) {
  const context = contextWith(fault);
  const job = shapeJob({ stateFile, outFile: out(name) }, examples, {
    ...changes,
    training: { epochs: 2, batchSize: 6 },
  });
  try {
    return { ...(await runTrainJob(job, context)), prepared: context.prepared };
  } finally {
    await context.executables.release();
  }
}

/** Largest difference from the undisturbed file's values, headers included in the comparison of length. */
async function differenceOf(file: string): Promise<number> {
  const bytes = await readFile(file);
  expect(bytes.length).toBe(undisturbed.length);
  return largestDifference(bytes, undisturbed);
}

describe('out of memory', () => {
  test('halves what is computed at once until it fits, and the result stays the same but for rounding', async () => {
    const result = await train('halved', {}, ({ batch, number }) => {
      if (number >= 2 && batch > 1) throw outOfMemory();
      return undefined;
    });

    expect(result.prepared).toEqual([6, 3, 1]);
    expect(result.events).toMatchObject([
      { kind: 'smaller-batch', from: '6', to: '3' },
      { kind: 'smaller-batch', from: '3', to: '1' },
    ]);
    expect(result.steps).toBe(4);
    expect(await differenceOf(out('halved'))).toBeLessThan(1e-3);
  });

  test('on an accelerator with one image goes to the processor', async () => {
    const result = await train('one', { device: 'webgpu', microBatch: 1 }, ({ device }) => {
      if (device === 'webgpu') throw outOfMemory();
      return undefined;
    });

    expect(result.events).toMatchObject([{ kind: 'device-changed', from: 'webgpu', to: 'cpu' }]);
    expect(await differenceOf(out('one'))).toBeLessThan(1e-3);
  });

  test('on the processor with one image is the end, and nothing is written', async () => {
    const running = train('never', { microBatch: 2 }, () => {
      throw outOfMemory();
    });

    await expect(running).rejects.toMatchObject({
      code: 'TRAINING_FAILED',
      message: 'There is not enough memory for even one image at a time.',
    });
    expect(existsSync(out('never'))).toBe(false);
  });
});

describe('a device that is lost', () => {
  test('is replaced by the processor from the last good state, with the same bytes as a run without a loss', async () => {
    const result = await train('lost', { device: 'webgpu', microBatch: 6 }, ({ device, number }) => {
      if (device === 'webgpu' && number === 2) throw deviceLost();
      return undefined;
    });

    expect(result.events).toMatchObject([{ kind: 'device-changed', from: 'webgpu', to: 'cpu' }]);
    expect(result.events[0]!.message).toContain('webgpu');
    expect((await readFile(out('lost'))).equals(undisturbed)).toBe(true);
  });

  test('in the middle of a batch leaves nothing of that batch behind', async () => {
    const plain = { microBatch: 2 };
    await train('parts', plain, () => undefined);

    const result = await train('parts-lost', { ...plain, device: 'cuda' }, ({ device, number }) => {
      if (device === 'cuda' && number === 4) throw deviceLost();
      return undefined;
    });

    expect(result.events).toHaveLength(1);
    expect((await readFile(out('parts-lost'))).equals(await readFile(out('parts')))).toBe(true);
  });

  test('which is the processor is an error', async () => {
    const running = train('never', {}, () => {
      throw deviceLost();
    });

    await expect(running).rejects.toMatchObject({ code: 'DEVICE_UNAVAILABLE' });
    expect(existsSync(out('never'))).toBe(false);
  });

  test('while evaluating is replaced too', async () => {
    const context = contextWith(({ device }) => {
      if (device === 'webgpu') throw deviceLost();
      return undefined;
    });
    const job = {
      baseId: 'face-resnet-128',
      stateFile: out('undisturbed'),
      examples,
      threads: 2,
      batchSize: 5,
    };
    const shared = { ...job, engine: 'onnxruntime', head: 'softmax', arcScale: 16, flip: false } as const;

    const result = await runEvaluateJob({ ...shared, device: 'webgpu' }, context);
    const plain = await runEvaluateJob({ ...shared, device: 'cpu' }, context);
    await context.executables.release();

    expect(result.events).toMatchObject([{ kind: 'device-changed' }]);
    expect({ ...result, events: undefined }).toEqual(plain);
  });
});

describe('a loss that is not a number', () => {
  test('once on an accelerator is computed again', async () => {
    const result = await train('once', { device: 'webgpu', microBatch: 6 }, ({ number }, outputs) =>
      number === 1 ? { ...outputs, ...notANumber() } : undefined,
    );

    expect(result.events).toMatchObject([{ kind: 'retried', from: 'webgpu', to: 'webgpu' }]);
    expect((await readFile(out('once'))).equals(undisturbed)).toBe(true);
  });

  test('again and again on an accelerator is left to the processor', async () => {
    const result = await train('often', { device: 'webgpu', microBatch: 6 }, ({ device, number }, outputs) =>
      device === 'webgpu' && number >= 1 ? { ...outputs, ...notANumber() } : undefined,
    );

    expect(result.events.map(({ kind }) => kind)).toEqual(['retried', 'device-changed']);
    expect((await readFile(out('often'))).equals(undisturbed)).toBe(true);
  });

  test('on the processor stops the run, which writes nothing', async () => {
    const running = train('never', {}, ({ number }, outputs) =>
      number === 1 ? { ...outputs, ...notANumber() } : undefined,
    );

    await expect(running).rejects.toMatchObject({
      code: 'TRAINING_FAILED',
      message: expect.stringContaining('diverged at step 2 of 4'),
    });
    expect(existsSync(out('never'))).toBe(false);
  });
});
