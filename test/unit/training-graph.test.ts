import { beforeAll, describe, expect, test } from 'vitest';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import {
  buildEvaluationGraph,
  buildFeatureGraph,
  buildHeadTrainingGraph,
  buildTrainingGraph,
  gradientOutput,
  graphShape,
  stateParameters,
  trainableWeights,
  withParameters,
} from '../../core/engine/training-graph.ts';
import type { Graph } from '../../core/graph/graph.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import { type FloatTensor, floatTensor, type Tensor } from '../../core/shared/tensor.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';

const classes = ['a', 'b', 'c'];
const batch = 4;
const smoothing = 0.1;
const headTrainables = ['head.weight', 'head.bias'];

let base: BaseModel;
beforeAll(async () => {
  base = await loadBaseModel('face-resnet-128');
});

/** A state whose B factors are not zero, so that the factors act. */
function busyState(targetModules: string, r: number) {
  const state = initialState(base, { classes, targetModules, r, scale: 2, seed: 5 });
  const random = createRandom(9);
  for (const { b } of state.lora.values())
    for (let i = 0; i < b.data.length; i++) b.data[i] = 0.02 * random.normal();
  return state;
}

function randomPixels(): FloatTensor {
  const random = createRandom(1);
  const pixels = floatTensor([batch, 3, base.inputSize, base.inputSize]);
  for (let i = 0; i < pixels.data.length; i++) pixels.data[i] = random.integer(256);
  return pixels;
}

function labels(...values: number[]): Tensor<'int64'> {
  return { dtype: 'int64', dims: [values.length], data: BigInt64Array.from(values, BigInt) };
}

function vector(...values: number[]): FloatTensor {
  return floatTensor([values.length], Float32Array.from(values));
}

async function run(graph: Graph, feeds: Record<string, Tensor>): Promise<Record<string, FloatTensor>> {
  const executable = await createOnnxRuntimeEngine().compile(graph, { device: 'cpu', threads: 1 });
  const outputs = await executable.run(feeds);
  await executable.release();
  return outputs as Record<string, FloatTensor>;
}

/** Weighted mean of the smoothed cross entropy, by its definition. */
function expectedLoss(logits: Float32Array, targets: number[], weights: number[]): number {
  let sum = 0;
  for (const [sample, target] of targets.entries()) {
    const row = [...logits.subarray(sample * classes.length, (sample + 1) * classes.length)];
    const total = Math.log(row.reduce((all, logit) => all + Math.exp(logit), 0));
    for (const [index, logit] of row.entries()) {
      const share = (index === target ? 1 - smoothing : 0) + smoothing / classes.length;
      sum -= weights[sample]! * share * (logit - total);
    }
  }
  return sum / weights.reduce((all, weight) => all + weight, 0);
}

const uniform = vector(1 / 3, 1 / 3, 1 / 3);

describe('the training graph', () => {
  test('gives the smoothed loss, and a sample of weight 0 counts for nothing', async () => {
    const state = busyState('level-256', 2);
    const parameters = stateParameters(state);
    const shape = {
      ...graphShape(state, { batch }),
      trainables: [...parameters.keys()],
      labelSmoothing: smoothing,
    };
    const graph = buildTrainingGraph(base, shape);
    const feeds = {
      ...Object.fromEntries(parameters),
      pixels: randomPixels(),
      labels: labels(0, 2, 1, 1),
      classPrior: uniform,
    };

    const all = await run(graph, { ...feeds, sampleWeights: vector(1 / 4, 1 / 4, 1 / 4, 1 / 4) });
    const three = await run(graph, { ...feeds, sampleWeights: vector(1 / 3, 1 / 3, 1 / 3, 0) });
    const relabelled = await run(graph, {
      ...feeds,
      labels: labels(0, 2, 1, 0),
      sampleWeights: vector(1 / 3, 1 / 3, 1 / 3, 0),
    });

    const logits = all['logits']!.data;
    expect(all['loss']!.data[0]).toBeCloseTo(expectedLoss(logits, [0, 2, 1, 1], [1, 1, 1, 1]), 5);
    expect(three['loss']!.data[0]).toBeCloseTo(expectedLoss(logits, [0, 2, 1, 1], [1, 1, 1, 0]), 5);
    expect(relabelled['loss']!.data).toEqual(three['loss']!.data);
    const name = gradientOutput('conv256_1.conv1.lora_A');
    expect(relabelled[name]!.data).toEqual(three[name]!.data);
    expect(three[name]!.data).not.toEqual(all[name]!.data);
  });

  test('a class prior is added to the logits as its logarithm, and smoothing follows it', async () => {
    const state = busyState('level-256', 2);
    const parameters = stateParameters(state);
    const shape = { ...graphShape(state, { batch }), trainables: ['head.weight'], labelSmoothing: smoothing };
    const prior = [0.7, 0.2, 0.1];

    const outputs = await run(buildTrainingGraph(base, shape), {
      ...Object.fromEntries(parameters),
      pixels: randomPixels(),
      labels: labels(0, 2, 1, 1),
      sampleWeights: vector(1 / 4, 1 / 4, 1 / 4, 1 / 4),
      classPrior: vector(...prior),
    });

    const logits = outputs['logits']!.data;
    const losses = [0, 2, 1, 1].map((label, row) => {
      const adjusted = prior.map((share, index) => Number(logits[row * 3 + index]) + Math.log(share));
      const total = Math.log(adjusted.reduce((sum, value) => sum + Math.exp(value), 0));
      return prior.reduce((sum, share, index) => {
        const target = (index === label ? 1 - smoothing : 0) + smoothing * share;
        return sum - target * (adjusted[index]! - total);
      }, 0);
    });
    expect(outputs['loss']!.data[0]).toBeCloseTo(losses.reduce((sum, loss) => sum + loss, 0) / 4, 5);
  });

  test('its gradients agree with finite differences of the loss', async () => {
    const state = busyState('default', 2);
    const parameters = stateParameters(state);
    const shape = {
      ...graphShape(state, { batch }),
      trainables: [...parameters.keys()],
      labelSmoothing: smoothing,
    };
    const executable = await createOnnxRuntimeEngine().compile(buildTrainingGraph(base, shape), {
      device: 'cpu',
      threads: 1,
    });
    const feeds = {
      pixels: randomPixels(),
      labels: labels(0, 2, 1, 1),
      sampleWeights: vector(1 / 4, 1 / 4, 1 / 4, 1 / 4),
      classPrior: vector(0.5, 0.3, 0.2),
    };
    const lossOf = async () => {
      const outputs = await executable.run({ ...feeds, ...Object.fromEntries(parameters) });
      return (outputs['loss'] as FloatTensor).data[0]!;
    };
    const outputs = await executable.run({ ...feeds, ...Object.fromEntries(parameters) });

    // Along the gradient itself the loss changes by step · |gradient|; single values drown in rounding. The
    // step is small because random pixels leave many ReLUs close to their kink.
    for (const name of [
      'conv64_1.conv2.lora_A',
      'conv128_down.conv1.lora_B',
      'conv256_down_out.conv1.lora_A',
      'head.weight',
    ]) {
      const gradient = (outputs[gradientOutput(name)] as FloatTensor).data;
      const norm = Math.hypot(...gradient);
      const { data } = parameters.get(name)!;
      const kept = data.slice();
      const step = 1e-4 / norm;
      const moved = async (sign: number) => {
        for (let i = 0; i < data.length; i++) data[i] = kept[i]! + (sign * step * gradient[i]!) / norm;
        return lossOf();
      };
      const slope = ((await moved(1)) - (await moved(-1))) / (2 * step);
      data.set(kept);
      expect(Math.abs(slope / norm - 1), name).toBeLessThan(0.03);
    }
    await executable.release();
  });

  test('a head trained on features has the loss and gradients of the whole graph', async () => {
    const state = busyState('level-256', 2);
    const parameters = stateParameters(state);
    const forward = graphShape(state, { batch });
    const feeds = {
      labels: labels(0, 2, 1, 1),
      sampleWeights: vector(1 / 3, 1 / 3, 0, 1 / 3),
      classPrior: uniform,
    };
    const pixels = randomPixels();
    const head = Object.fromEntries(headTrainables.map((name) => [name, parameters.get(name)!]));
    const factors = Object.fromEntries([...parameters].filter(([name]) => !name.startsWith('head.')));

    const whole = await run(
      buildTrainingGraph(base, { ...forward, trainables: headTrainables, labelSmoothing: smoothing }),
      { ...feeds, ...head, ...factors, pixels },
    );
    const { features } = await run(buildFeatureGraph(base, forward), { ...factors, pixels });
    const alone = await run(
      buildHeadTrainingGraph(base, { ...forward, lora: [], fedWeights: [], labelSmoothing: smoothing }),
      { ...feeds, ...head, features: features! },
    );

    for (const name of ['loss', 'logits', ...headTrainables.map(gradientOutput)]) {
      const expected = whole[name]!.data;
      for (const [i, value] of alone[name]!.data.entries()) expect(value).toBeCloseTo(expected[i]!, 5);
    }
  });

  test('factors that are still zero leave the base as it is', async () => {
    const state = initialState(base, { classes, targetModules: 'all', r: 3, scale: 1, seed: 5 });
    const pixels = randomPixels();
    const factors = Object.fromEntries(
      [...stateParameters(state)].filter(([name]) => !name.startsWith('head.')),
    );

    const adapted = await run(buildFeatureGraph(base, graphShape(state, { batch })), { ...factors, pixels });
    const plain = await run(base.buildGraph(batch), { pixels });

    for (const [i, value] of adapted['features']!.data.entries()) {
      expect(value).toBeCloseTo(plain['embedding']!.data[i]!, 5);
    }
  });

  test('fed base weights act like those built in', async () => {
    const state = initialState(base, { classes, targetModules: 'all', r: 0, scale: 1, seed: 5 });
    const names = trainableWeights(base, 'full', 0);
    const weights = new Map([...base.weights].map(([name, tensor]) => [name, tensor]));
    const fed = { ...state, base: weights };
    const pixels = randomPixels();

    const withFed = await run(buildEvaluationGraph(base, graphShape(fed, { batch })), {
      ...Object.fromEntries(stateParameters(fed)),
      pixels,
    });
    const builtIn = await run(buildEvaluationGraph(base, graphShape(state, { batch })), {
      ...Object.fromEntries(stateParameters(state)),
      pixels,
    });

    expect(names).toHaveLength(base.weights.size);
    for (const [i, value] of withFed['logits']!.data.entries()) {
      expect(value).toBeCloseTo(builtIn['logits']!.data[i]!, 4);
    }
  });
});

describe('states and parameters', () => {
  test('go there and back', () => {
    const state = busyState('default', 2);
    expect(withParameters(state, stateParameters(state), [])).toEqual(state);
  });

  test('an initial state has PEFT factors: A uniform within 1/√fan_in, B zero', () => {
    const state = initialState(base, { classes, targetModules: 'default', r: 8, scale: 1.5, seed: 1 });
    const { a, b, scale } = state.lora.get('conv64_1.conv1')!;
    const bound = 1 / Math.sqrt(64 * 9);

    expect([a.dims, b.dims, scale]).toEqual([[8, 64, 3, 3], [64, 8, 1, 1], 1.5]);
    expect(Math.max(...a.data)).toBeLessThanOrEqual(bound);
    expect(Math.max(...a.data)).toBeGreaterThan(0.95 * bound);
    expect(Math.min(...a.data)).toBeLessThan(-0.95 * bound);
    expect(b.data.every((value) => value === 0)).toBe(true);
    expect(state.baseSha256).toBe(base.sha256);
    expect(initialState(base, { classes, targetModules: 'default', r: 8, scale: 1.5, seed: 1 })).toEqual(
      state,
    );
  });

  test('unknown modules are named', () => {
    const options = { classes, r: 2, scale: 1, seed: 1 };
    expect(() => initialState(base, { ...options, targetModules: 'some' })).toThrow(
      /no set of modules "some"/,
    );
    expect(() => initialState(base, { ...options, targetModules: ['conv9'] })).toThrow(/no module "conv9"/);
  });
});

describe('the catalogue', () => {
  test('loads each base model once, with presets of modules that exist', async () => {
    const builtIn = await createCatalogue().list();
    expect(builtIn).not.toEqual([]);
    for (const { id } of builtIn) {
      const model = await loadBaseModel(id);
      expect(await loadBaseModel(id)).toBe(model);
      const modules = new Set(model.layers.map((layer) => layer.module));
      for (const preset of Object.values(model.presets))
        for (const name of preset) expect(modules).toContain(name);
      expect(Object.keys(model.presets)).toEqual(expect.arrayContaining(['default', 'all']));
      for (const layer of model.layers) expect(model.weights.has(layer.weight)).toBe(true);
    }
  });

  test('knows the face network by the hash of its weights', () => {
    expect(base.sha256).toBe('5f8c7d72c7e8d5a36b7ae96689066e90be05b87a4c8389ddfbcb526b69000f7c');
    expect([...base.weights.values()].reduce((sum, { data }) => sum + data.length, 0)).toBe(5_607_488);
  });

  test('names an unknown model', async () => {
    await expect(loadBaseModel('nothing')).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' });
  });
});
