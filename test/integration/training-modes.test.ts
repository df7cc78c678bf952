/** What can be chosen for a training job, run on a small vision transformer with random weights. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { augmentationSettingsSchema } from '../../core/config/local-training.ts';
import { loadEngine } from '../../core/engine/engines.ts';
import { runEvaluateJob } from '../../core/engine/evaluation-job.ts';
import { createExecutableCache } from '../../core/engine/executable-cache.ts';
import type { JobContext } from '../../core/engine/job-context.ts';
import { createPixelSource } from '../../core/engine/pixel-source.ts';
import { type Example, evaluateJobSchema, trainJobSchema } from '../../core/engine/trainer-protocol.ts';
import { runTrainJob } from '../../core/engine/training-job.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { decodeModelState, encodeModelState } from '../../core/lora/state-file.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { withReplacedWeights } from '../../core/models/replaced-weights.ts';
import { trainableWeights } from '../../core/models/trainable-weights.ts';
import { createVit } from '../../core/models/vit.ts';
import { type VitConfig, vitTiny } from '../../core/models/vit-config.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { randomVitWeights } from '../fixtures/base-models.ts';
import { shapeClasses, shapeJob, writeShapeCrops } from '../fixtures/shape-crops.ts';

const config: VitConfig = {
  ...vitTiny,
  id: 'vit-small-test',
  imageSize: 32,
  patchSize: 8,
  hiddenSize: 24,
  layers: 3,
  heads: 2,
  mlpSize: 48,
};
const base = createVit(config, randomVitWeights(config, 7));
let folder: string;
let examples: Example[];
let context: JobContext;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-modes-'));
  // 150 × 150: the job scales them to the 32 × 32 of this model.
  examples = await writeShapeCrops(path.join(folder, 'crops'), 6, 1);
  context = {
    executables: createExecutableCache(loadEngine, 6),
    pixels: createPixelSource(64 * 2 ** 20),
    loadBase: async () => base,
    onProgress: () => {},
    onPrepared: () => {},
    pause: async () => {},
  };
  await writeFile(file('lora-start'), encodeModelState(startState(2)));
  await writeFile(file('plain-start'), encodeModelState(startState(0)));
});
afterAll(async () => {
  await context?.pixels.close();
  await context?.executables.release();
  await rm(folder, { recursive: true, force: true });
});

const file = (name: string) => path.join(folder, `${name}.safetensors`);

function startState(r: number): ModelState {
  return initialState(base, { classes: shapeClasses, targetModules: 'default', r, scale: 1, seed: 3 });
}

type Changes = Parameters<typeof shapeJob>[2];

async function train(name: string, start: string, changes: Changes, where: JobContext = context) {
  const job = shapeJob({ stateFile: file(start), outFile: file(name) }, examples, {
    baseId: base.id,
    ...changes,
  });
  const result = await runTrainJob(trainJobSchema.parse(job), where);
  return {
    result,
    bytes: await readFile(file(name)),
    state: decodeModelState(await readFile(file(name)), name),
  };
}

function evaluate(name: string, head: 'softmax' | 'arcface') {
  const job = { baseId: base.id, stateFile: file(name), examples, device: 'cpu', threads: 1, batchSize: 7 };
  return runEvaluateJob(evaluateJobSchema.parse({ ...job, head }), context);
}

/** Root mean square of the difference of two states' factors, as a share of how far the first came from the start. */
function distance(a: ModelState, b: ModelState): number {
  let sum = 0;
  let size = 0;
  for (const [module, layer] of a.lora) {
    const start = startState(2).lora.get(module)!;
    for (const factor of ['a', 'b'] as const) {
      for (const [i, value] of layer[factor].data.entries()) {
        sum += (value - b.lora.get(module)![factor].data[i]!) ** 2;
        size += (value - start[factor].data[i]!) ** 2;
      }
    }
  }
  return Math.sqrt(sum / size);
}

describe('LoRA', () => {
  const training = {
    epochs: 2,
    batchSize: 6,
    loraDropout: 0.3,
    classWeights: 'balanced',
    augment: true,
  } as const;

  test('a batch cut into parts trains as the whole batch does, dropout and augmentation included', async () => {
    const whole = await train('whole', 'lora-start', { microBatch: 6, training });
    const parts = await train('parts', 'lora-start', { microBatch: 4, training });

    expect(distance(whole.state, parts.state)).toBeLessThan(0.01);
    expect(parts.result.meanLoss).toBeCloseTo(whole.result.meanLoss, 4);
    expect(whole.result.steps).toBe(6);
  });

  test('dropout, augmentation strengths and schedule each change the result, and the same job repeats it', async () => {
    const first = await train('first', 'lora-start', { training });
    const again = await train('again', 'lora-start', { training });
    const others = [
      await train('other1', 'lora-start', { training: { ...training, loraDropout: 0 } }),
      await train('other2', 'lora-start', {
        training: { ...training, augment: augmentationSettingsSchema.parse({ blur: 0.05 }) },
      }),
      await train('other3', 'lora-start', { training: { ...training, learningRateSchedule: 'linear' } }),
    ];

    expect(again.bytes.equals(first.bytes)).toBe(true);
    for (const other of others) expect(other.bytes.equals(first.bytes)).toBe(false);
  });
});

describe('weights of the base', () => {
  test('factors train on the weights that a state brings, as on a base model that has them', async () => {
    const results: Buffer[] = [];
    for (const seed of [8, 9]) {
      // Same shapes, other values: what was compiled for the first must not serve the second.
      const brought = createVit(config, randomVitWeights(config, seed)).weights;
      await writeFile(file('brought'), encodeModelState({ ...startState(2), base: new Map(brought) }));
      const such = { ...context, loadBase: async () => withReplacedWeights(base, brought) };

      const { state, bytes } = await train('on-brought', 'brought', { training: { epochs: 2 } });
      const alike = await train(
        'on-such',
        'lora-start',
        { training: { epochs: 2 } },
        {
          ...such,
          executables: createExecutableCache(loadEngine, 2),
        },
      );

      expect(state.base.size).toBe(0);
      expect(bytes.equals(alike.bytes)).toBe(true);
      results.push(bytes);
    }
    expect(results[0]!.equals(results[1]!)).toBe(false);
  });

  test('a weight that a state brings in another shape is refused', async () => {
    const name = [...base.weights.keys()][0]!;
    const brought = new Map([[name, floatTensor([1, 2, 3])]]);
    await writeFile(file('misshapen'), encodeModelState({ ...startState(2), base: brought }));

    await expect(train('never', 'misshapen', {})).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' });
  });

  test('full trains every one', async () => {
    const { state } = await train('full', 'plain-start', { mode: 'full', training: { epochs: 2 } });

    expect([...state.base.keys()].sort()).toEqual([...base.weights.keys()].sort());
    for (const [name, { data }] of state.base) expect(data, name).not.toEqual(base.weights.get(name)!.data);
  });

  test('last-k trains and sends its blocks alone, norms and biases included', async () => {
    const { state } = await train('last', 'plain-start', {
      mode: 'last-k',
      lastK: 1,
      training: { epochs: 2 },
    });

    expect([...state.base.keys()].sort()).toEqual(trainableWeights(base, 'last-k', 1).sort());
    for (const [name, { data }] of state.base) {
      // Keys shift all scores of a row alike: their bias has no gradient.
      if (name.endsWith('attn.k.bias')) continue;
      expect(data, name).not.toEqual(base.weights.get(name)!.data);
    }
  });
});

describe('heads and optimisers', () => {
  test.each([
    ['arcface', 'adamw', {}],
    ['arcface', 'sgd', { headLearningRate: 0.05, nesterov: true }],
    ['softmax', 'sgd', { headLearningRate: 0.02, learningRateSchedule: 'constant' }],
  ] as const)('%s with %s learns on embeddings that do not change', async (head, optimiser, changes) => {
    const name = `head-${head}-${optimiser}`;
    const before = await evaluate('plain-start', head);
    const training = { epochs: 40, batchSize: 6, head, optimiser, ...changes };

    const { state } = await train(name, 'plain-start', { mode: 'head', training });
    const after = await evaluate(name, head);

    expect(after.meanLoss).toBeLessThan(before.meanLoss);
    expect(after.correct).toBeGreaterThan(before.correct);
    const bias = state.head.get('bias')!.data;
    expect(bias.some((value) => value !== 0)).toBe(head === 'softmax');
  });
});
