/**
 * Jobs with engine "tensorflow" in the real trainer process: on WebAssembly always, on libtensorflow where it
 * is installed (`.ci/tensorflow.sh`).
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { EngineName } from '../../core/engine/engine.ts';
import {
  folderVariable,
  readInstallation,
  tensorFlowFolder,
} from '../../core/engine/tensorflow/installation.ts';
import { startTrainer, type TrainerHandle } from '../../core/engine/trainer.ts';
import type { Example } from '../../core/engine/trainer-protocol.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { decodeModelState, encodeModelState } from '../../core/lora/state-file.ts';
import { loadFaceResnet128 } from '../../core/models/face-resnet-128.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { shapeClasses, shapeJob, writeShapeCrops } from '../fixtures/shape-crops.ts';

let folder: string;
let stateFile: string;
let start: ModelState;
let examples: Example[];
let trainer: TrainerHandle | undefined;
const outsideFolder = process.env[folderVariable];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-tensorflow-trainer-'));
  const base = await loadFaceResnet128();
  start = initialState(base, { classes: shapeClasses, targetModules: 'default', r: 2, scale: 1, seed: 3 });
  stateFile = path.join(folder, 'start.safetensors');
  await writeFile(stateFile, encodeModelState(start));
  examples = (await writeShapeCrops(path.join(folder, 'crops'), 2, 1)).slice(0, 4);
});
afterEach(async () => {
  await trainer?.close();
  trainer = undefined;
  setInstallation(outsideFolder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The trainer process takes over the environment with which it is started. */
function setInstallation(value: string | undefined): void {
  if (value === undefined) delete process.env[folderVariable];
  else process.env[folderVariable] = value;
}

/** SGD, because AdamW's first steps blow up the rounding of gradients that are nearly 0. */
async function train(engine: EngineName): Promise<ModelState> {
  const outFile = path.join(folder, `${engine}.safetensors`);
  const training = { batchSize: 2, optimiser: 'sgd', learningRate: 0.1, warmupShare: 0 } as const;
  await trainer!.train(shapeJob({ stateFile, outFile }, examples, { engine, training }));
  return decodeModelState(await readFile(outFile), 'the result');
}

/** How far the factors B came from their start (zeros), and how far two runs' lie apart. */
function distances(a: ModelState, b: ModelState): { moved: number; apart: number } {
  let moved = 0;
  let apart = 0;
  for (const [module, layer] of a.lora) {
    const other = b.lora.get(module)!.b.data;
    for (const [index, value] of layer.b.data.entries()) {
      moved += value ** 2;
      apart += (value - other[index]!) ** 2;
    }
  }
  return { moved: Math.sqrt(moved), apart: Math.sqrt(apart) };
}

const native = readInstallation(tensorFlowFolder());

describe.each([
  ['WebAssembly', '/nowhere'],
  ['libtensorflow, where it is installed', native?.folder],
])('a job on %s', (_title, installation) => {
  test.skipIf(installation === undefined)('moves the factors as ONNX Runtime does', async () => {
    setInstallation(installation);
    trainer = startTrainer();

    const onTensorFlow = await train('tensorflow');
    const onOnnxRuntime = await train('onnxruntime');

    const { moved, apart } = distances(onOnnxRuntime, onTensorFlow);
    expect(moved).toBeGreaterThan(0.001);
    expect(apart / moved).toBeLessThan(0.01);
  });
});

test('a device that TensorFlow lacks ends a measurement with what is missing', async () => {
  setInstallation('/nowhere');
  trainer = startTrainer();
  const job = { baseId: 'face-resnet-128', threads: 1, batchSize: 1, steps: 1 };

  await expect(trainer.measure({ ...job, engine: 'tensorflow', device: 'cuda' })).rejects.toMatchObject({
    code: 'DEVICE_UNAVAILABLE',
    message: expect.stringMatching(/TensorFlow library is not installed/),
  });
});
