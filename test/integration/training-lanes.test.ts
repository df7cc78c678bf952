/** Training in lanes: the same bytes as without them, every time, and a lane that ends costs no step. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CompileOptions, Engine, Executable, Lane } from '../../core/engine/engine.ts';
import { createExecutableCache } from '../../core/engine/executable-cache.ts';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import { createPixelSource, type PixelSource } from '../../core/engine/pixel-source.ts';
import { LaneEndedError } from '../../core/engine/run-error.ts';
import { startTrainer } from '../../core/engine/trainer.ts';
import type { Example, TrainJob } from '../../core/engine/trainer-protocol.ts';
import { runTrainJob } from '../../core/engine/training-job.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';

import { largestDifference, shapeJob, writeShapeCrops, writeShapeStart } from '../fixtures/shape-crops.ts';

const real = createOnnxRuntimeEngine();
let folder: string;
let stateFile: string;
let examples: Example[];
let pixels: PixelSource;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-lanes-'));
  pixels = createPixelSource(64 * 2 ** 20);
  stateFile = await writeShapeStart(folder, 'conv');
  examples = await writeShapeCrops(path.join(folder, 'crops'), 4, 1);
});
afterAll(async () => {
  await pixels?.close();
  await rm(folder, { recursive: true, force: true });
});

const out = (name: string) => path.join(folder, `${name}.safetensors`);

function lanesJob(name: string, changes: Partial<Omit<TrainJob, 'training'>> = {}): TrainJob {
  return shapeJob({ stateFile, outFile: out(name) }, examples, {
    ...changes,
    training: { epochs: 3, batchSize: 10, loraDropout: 0.1, augment: true, classWeights: 'balanced' },
  });
}

/** Four steps on twelve images: three of ten, cut into four, four and two (or five and five), and one of six. */
async function train(
  name: string,
  compile: Engine['compile'],
  changes: Partial<Omit<TrainJob, 'training'>> = {},
) {
  const engine: Engine = { ...real, compile };
  const executables = createExecutableCache(async () => engine, 4);
  try {
    return await runTrainJob(lanesJob(name, changes), {
      executables,
      pixels,
      loadBase: loadBaseModel,
      onProgress: () => {},
      onPrepared: () => {},
      pause: async () => {},
    });
  } finally {
    await executables.release();
  }
}

const bytesOf = (name: string) => readFile(out(name));

/** Compiles as asked, and notes with how many lanes. */
function watched(seen: (number | undefined)[]): Engine['compile'] {
  return (graph: Graph, options: CompileOptions) => {
    seen.push(options.lanes);
    return real.compile(graph, options);
  };
}

/** The real engine without lanes: the parts are the same, computed one after the other. */
const oneByOne: Engine['compile'] = (graph, options) => real.compile(graph, { ...options, lanes: 1 });

test.each([8, 10])('%s images at once in two lanes give the bytes of one part after the other', async (n) => {
  const seen: (number | undefined)[] = [];
  await train(`lanes-${n}`, watched(seen), { microBatch: n });
  await train(`again-${n}`, watched(seen), { microBatch: n });
  await train(`single-${n}`, oneByOne, { microBatch: n });

  expect(seen).toEqual([2, 2]);
  expect((await bytesOf(`again-${n}`)).equals(await bytesOf(`lanes-${n}`))).toBe(true);
  expect((await bytesOf(`single-${n}`)).equals(await bytesOf(`lanes-${n}`))).toBe(true);
});

test('a trainer process that is killed while it computes in lanes goes on to the same bytes', async () => {
  await using trainer = startTrainer({ oomKills: () => 0 });
  let killed = false;
  const files = { checkpointFile: path.join(folder, 'killed.checkpoint'), checkpointSeconds: 0 };

  const result = await trainer.train(lanesJob('killed', { ...files, microBatch: 10 }), {
    onProgress({ step }) {
      if (killed || step < 2) return;
      killed = true;
      process.kill(trainer.pid!, 'SIGKILL');
    },
  });

  expect(result.events.map(({ kind }) => kind)).toEqual(['restarted', 'resumed']);
  expect((await bytesOf('killed')).equals(await bytesOf('lanes-10'))).toBe(true);
});

test('one thread has no lanes', async () => {
  const seen: (number | undefined)[] = [];
  await train('one-thread', watched(seen), { threads: 1 });
  expect(seen).toEqual([1]);
});

test('the whole base is trained without lanes: its gradients are too many to add up', async () => {
  const seen: (number | undefined)[] = [];
  await train('full', watched(seen), { mode: 'full' });
  expect(seen).toEqual([1]);
});

test('a lane that ends is told, and the run goes on without lanes from the last good step', async () => {
  const seen: (number | undefined)[] = [];
  let runs = 0;
  const compile: Engine['compile'] = async (graph, options) => {
    const executable = await watched(seen)(graph, options);
    const beside = executable.beside?.map(
      (lane): Lane => ({
        start: (feeds) => (++runs === 3 ? Promise.reject(new LaneEndedError()) : lane.start(feeds)),
      }),
    );
    return { ...executable, ...(beside === undefined ? {} : { beside }) } satisfies Executable;
  };

  const result = await train('ended', compile, { microBatch: 10 });

  expect(result.events).toMatchObject([{ kind: 'lane-ended', from: '2', to: '1' }]);
  expect(result.steps).toBe(4);
  expect(seen).toEqual([2, 1]);
  const [lost, whole] = [await bytesOf('ended'), await bytesOf('lanes-10')];
  expect(largestDifference(lost, whole)).toBeLessThan(1e-3);
});
