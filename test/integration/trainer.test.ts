/** Real training in the real trainer process. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTrainer, type TrainerHandle } from '../../core/engine/trainer.ts';
import type { Example, TrainProgress } from '../../core/engine/trainer-protocol.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { decodeModelState, encodeModelState } from '../../core/lora/state-file.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { shapeClasses, shapeJob, writeShapeCrops } from '../fixtures/shape-crops.ts';

let folder: string;
let base: BaseModel;
let start: ModelState;
let stateFile: string;
let trainingSet: Example[];
let heldOut: Example[];
let trainer: TrainerHandle;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-trainer-'));
  base = await loadBaseModel('face-resnet-128');
  start = initialState(base, { classes: shapeClasses, targetModules: 'default', r: 4, scale: 1, seed: 3 });
  stateFile = path.join(folder, 'start.safetensors');
  await writeFile(stateFile, encodeModelState(start));
  trainingSet = await writeShapeCrops(path.join(folder, 'crops'), 16, 1);
  heldOut = await writeShapeCrops(path.join(folder, 'crops'), 8, 2);
  trainer = startTrainer();
});
afterAll(async () => {
  await trainer?.close();
  await rm(folder, { recursive: true, force: true });
});

const out = (name: string) => path.join(folder, `${name}.safetensors`);
const few = () => trainingSet.slice(0, 16);

async function readState(file: string): Promise<ModelState> {
  return decodeModelState(await readFile(file), 'the result');
}

async function evaluate(file: string) {
  const { device, threads } = { device: 'cpu' as const, threads: 2 };
  return trainer.evaluate({
    baseId: base.id,
    stateFile: file,
    examples: heldOut,
    device,
    threads,
    batchSize: 8,
  });
}

/** L2 distance over all LoRA factors and the head. */
function distance(a: ModelState, b: ModelState): number {
  let sum = 0;
  const add = (x: Float32Array, y: Float32Array) => {
    for (let i = 0; i < x.length; i++) sum += (x[i]! - y[i]!) ** 2;
  };
  for (const [module, layer] of a.lora) {
    add(layer.a.data, b.lora.get(module)!.a.data);
    add(layer.b.data, b.lora.get(module)!.b.data);
  }
  for (const [name, tensor] of a.head) add(tensor.data, b.head.get(name)!.data);
  return Math.sqrt(sum);
}

describe('a LoRA job', () => {
  test('lowers the loss and raises accuracy on images it has not seen', async () => {
    const progress: TrainProgress[] = [];
    const before = await evaluate(stateFile);
    const job = shapeJob({ stateFile, outFile: out('learned') }, trainingSet, {
      training: { epochs: 4 },
    });

    const result = await trainer.train(job, { onProgress: (report) => progress.push(report) });
    const after = await evaluate(out('learned'));

    expect(result).toMatchObject({ steps: 24, examples: 48 });
    const meanLoss = (reports: TrainProgress[]) =>
      reports.reduce((sum, { loss }) => sum + loss, 0) / reports.length;
    expect(meanLoss(progress.slice(-3))).toBeLessThan(0.6 * meanLoss(progress.slice(0, 3)));
    expect(progress.map((report) => report.step)).toEqual(
      progress.map((report) => report.step).toSorted((a, b) => a - b),
    );
    expect(progress.length).toBeLessThanOrEqual(2 + (5 * result.wallMs) / 1000);
    expect(before.total).toBe(24);
    expect(after.correct / after.total).toBeGreaterThanOrEqual(0.8);
    expect(after.correct).toBeGreaterThan(before.correct);
    expect(after.meanLoss).toBeLessThan(0.7 * before.meanLoss);
    expect(after.counts.perClass!.map((row) => row.total)).toEqual([8, 8, 8]);
  });

  test('gives a state of the same form, with factors and head changed and no base weights', async () => {
    const state = await readState(out('learned'));

    expect([...state.lora.keys()].sort()).toEqual([...start.lora.keys()].sort());
    expect(state.base.size).toBe(0);
    for (const [module, layer] of state.lora) {
      const from = start.lora.get(module)!;
      expect(layer).toMatchObject({ r: from.r, scale: from.scale });
      expect(layer.a.data).not.toEqual(from.a.data);
      expect(layer.b.data.some((value) => value !== 0)).toBe(true);
    }
  });

  test('repeats bit for bit with the same seed, and not with another', async () => {
    const changes = { training: { augment: true } };
    await trainer.train(shapeJob({ stateFile, outFile: out('one') }, few(), changes));
    await trainer.train(shapeJob({ stateFile, outFile: out('two') }, few(), changes));
    await trainer.train(shapeJob({ stateFile, outFile: out('other') }, few(), { ...changes, seed: 12 }));
    const [one, two, other] = await Promise.all(['one', 'two', 'other'].map((name) => readFile(out(name))));

    expect(one!.equals(two!)).toBe(true);
    expect(one!.equals(other!)).toBe(false);
  });

  test('stays nearer to where it began with a proximal pull', async () => {
    const training = { epochs: 3 };
    const free = shapeJob({ stateFile, outFile: out('free') }, few(), { training });
    const held = shapeJob({ stateFile, outFile: out('held') }, few(), {
      training: { ...training, proximal: 10 },
    });

    await trainer.train(free);
    await trainer.train(held);

    const freeDistance = distance(await readState(out('free')), start);
    const heldDistance = distance(await readState(out('held')), start);
    expect(heldDistance).toBeLessThan(0.8 * freeDistance);
    expect(heldDistance).toBeGreaterThan(0);
  });

  test('that diverges says so and writes nothing', async () => {
    const job = shapeJob({ stateFile, outFile: out('diverged') }, few(), {
      training: {
        learningRate: 1e6,
        headLearningRate: 1e6,
        baseLearningRate: 1e6,
        clipNorm: 0,
        epochs: 3,
      },
    });

    await expect(trainer.train(job)).rejects.toMatchObject({
      code: 'TRAINING_FAILED',
      message: expect.stringMatching(/diverged at step \d+ of 6/),
    });
    expect(existsSync(out('diverged'))).toBe(false);
  });
});

describe('the other modes', () => {
  test('a head trains on features alone and leaves the factors as they were', async () => {
    const job = shapeJob({ stateFile, outFile: out('head') }, few(), {
      mode: 'head',
      training: { epochs: 10 },
    });

    const result = await trainer.train(job);

    const state = await readState(out('head'));
    expect(result.steps).toBe(20);
    expect(state.head.get('weight')!.data).not.toEqual(start.head.get('weight')!.data);
    for (const [module, layer] of state.lora) expect(layer.a.data).toEqual(start.lora.get(module)!.a.data);
  });

  test('full training returns every base weight, and evaluation uses them', async () => {
    const plain = { ...start, lora: new Map() };
    await writeFile(out('plain'), encodeModelState(plain));
    const training = { learningRate: 2e-4, epochs: 1 };
    const job = shapeJob({ stateFile: out('plain'), outFile: out('full') }, few(), {
      mode: 'full',
      training,
    });

    await trainer.train(job);

    const state = await readState(out('full'));
    expect([...state.base.keys()].sort()).toEqual([...base.weights.keys()].sort());
    for (const [name, tensor] of state.base)
      expect(tensor.data, name).not.toEqual(base.weights.get(name)!.data);
    const headAlone = { ...state, base: new Map() };
    await writeFile(out('full-head'), encodeModelState(headAlone));
    const [full, head] = [await evaluate(out('full')), await evaluate(out('full-head'))];
    expect(full.meanLoss).not.toBeCloseTo(head.meanLoss, 4);
  });

  test('last-k training returns the weights of the last blocks alone', async () => {
    const plain = { ...start, lora: new Map() };
    await writeFile(out('plain'), encodeModelState(plain));
    const job = shapeJob({ stateFile: out('plain'), outFile: out('last') }, few(), {
      mode: 'last-k',
      lastK: 2,
    });

    await trainer.train(job);

    const state = await readState(out('last'));
    expect([...state.base.keys()].sort()).toEqual([
      'conv256_down_out.conv1.bias',
      'conv256_down_out.conv1.weight',
      'conv256_down_out.conv2.bias',
      'conv256_down_out.conv2.weight',
      'fc.weight',
    ]);
  });
});

describe('a job that cannot work', () => {
  const attempt = (changes: Parameters<typeof shapeJob>[2], examples = few()) =>
    trainer.train(shapeJob({ stateFile, outFile: out('never') }, examples, changes));

  test.each([
    [
      'an unknown class',
      { code: 'LABEL_UNKNOWN' },
      () => attempt({ examples: [{ file: few()[0]!.file, label: 3 }] }),
    ],
    ['no images', { code: 'NOT_ENOUGH_DATA' }, () => attempt({ examples: [] })],
    [
      'a missing crop',
      { code: 'IMAGE_UNREADABLE' },
      () => attempt({ examples: [{ file: out('no'), label: 0 }] }),
    ],
    ['a missing state', { code: 'NOT_FOUND' }, () => attempt({ stateFile: out('no') })],
    ['another base model', { code: 'MODEL_UNKNOWN' }, () => attempt({ baseId: 'nothing' })],
    [
      'no folder to write to',
      { code: 'DATA_FOLDER_UNUSABLE' },
      () => attempt({ mode: 'head', outFile: path.join(folder, 'no', 'such.safetensors') }),
    ],
    ['a malformed setting', { code: 'CONFIG_INVALID' }, () => attempt({ training: { batchSize: -1 } })],
  ])('with %s is refused', async (_, error, run) => {
    await expect(run()).rejects.toMatchObject(error);
    expect(existsSync(out('never'))).toBe(false);
  });
});

test('measure times real steps', async () => {
  const result = await trainer.measure({
    baseId: base.id,
    device: 'cpu',
    threads: 2,
    batchSize: 4,
    steps: 2,
  });

  expect(result.imagesPerSecond).toBeGreaterThan(1);
  expect(result.peakMemoryBytes).toBeGreaterThan(50e6);
});
