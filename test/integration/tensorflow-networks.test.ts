/**
 * Whole training graphs on TensorFlow.js against ONNX Runtime: in WebAssembly always, on libtensorflow where
 * `npm run setup:tensorflow` has installed it (`.ci/tensorflow.sh` does).
 */
import * as tf from '@tensorflow/tfjs';
import { describe, expect, test } from 'vitest';
import { buildTrainingGraph, graphShape, stateParameters } from '../../core/engine/training-graph.ts';
import { appendGradients } from '../../core/graph/autodiff.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { loadFaceResnet128 } from '../../core/models/face-resnet-128.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { createVit } from '../../core/models/vit.ts';
import { vitTiny } from '../../core/models/vit-config.ts';
import { createRandom } from '../../core/shared/random.ts';
import { type FloatTensor, floatTensor, type Tensor } from '../../core/shared/tensor.ts';
import { randomVitWeights } from '../fixtures/base-models.ts';
import { disagreements, tensorFlowLegs } from '../gradient/engine-parity.ts';
import { randomTensor, uniformTensor } from '../gradient/finite-differences.ts';

const tolerance = 1e-3;
const classes = ['a', 'b', 'c'];

interface Network {
  readonly graph: Graph;
  readonly feeds: Record<string, Tensor>;
}

function vector(values: readonly number[]): FloatTensor {
  return floatTensor([values.length], Float32Array.from(values));
}

/** The graph that a site trains, with factors B that are not zero, so that both factors have a gradient. */
function trainingNetwork(base: BaseModel, batch: number): Network {
  const state = initialState(base, { classes, targetModules: 'default', r: 4, scale: 2, seed: 5 });
  const random = createRandom(9);
  for (const { b } of state.lora.values()) {
    for (let i = 0; i < b.data.length; i++) b.data[i] = 0.02 * random.normal();
  }
  const parameters = stateParameters(state);
  const trainables = [...parameters.keys()];
  const graph = buildTrainingGraph(base, {
    ...graphShape(state, { batch }),
    trainables,
    labelSmoothing: 0.1,
  });
  const feeds: Record<string, Tensor> = {
    ...Object.fromEntries(parameters),
    pixels: uniformTensor([batch, 3, base.inputSize, base.inputSize], 'pixels', 0, 255),
    labels: {
      dtype: 'int64',
      dims: [batch],
      data: BigInt64Array.from({ length: batch }, (_, i) => BigInt(i % 3)),
    },
    sampleWeights: vector(Array(batch).fill(1 / batch)),
    classPrior: vector([0.5, 0.3, 0.2]),
  };
  return { graph, feeds };
}

/** What imported networks are made of: groups, one filter per channel, uneven strides, dilation, PRelu, norms. */
function mobileNetwork(): Network {
  const b = new GraphBuilder();
  const constant = (dims: number[], seed: string, scale = 0.4) => b.constant(randomTensor(dims, seed, scale));
  const x = b.input('x', 'float32', [2, 4, 13, 11]);
  const stem = b.input('stem', 'float32', [8, 4, 3, 3]);
  let y = b.conv(x, stem, { pads: [1, 1, 1, 1], bias: constant([8], 'bias') });
  y = b.append1('PRelu', [y, constant([8, 1, 1], 'slopes')]);
  y = b.conv(y, constant([8, 1, 3, 3], 'depthwise'), { group: 8, strides: [2, 1], pads: [1, 1, 1, 1] });
  y = b.append1('BatchNormalization', [
    y,
    constant([8], 'scale'),
    constant([8], 'shift'),
    constant([8], 'mean'),
    b.constant(uniformTensor([8], 'variance', 0.5, 2)),
  ]);
  y = b.conv(y, constant([8, 1, 2, 2], 'dilated depthwise'), {
    group: 8,
    dilations: [2, 2],
    pads: [1, 1, 1, 1],
  });
  y = b.relu(y);
  y = b.conv(y, constant([6, 4, 2, 2], 'grouped'), {
    group: 2,
    dilations: [2, 1],
    strides: [2, 2],
    pads: [1, 0, 1, 1],
  });
  y = b.add(y, b.convTranspose(y, constant([6, 2, 1, 1], 'back'), { group: 3 }));
  const norm = [b.constant(uniformTensor([6], 'g', 0.5, 1)), constant([6], 'h')];
  y = b.append1('InstanceNormalization', [y, ...norm]);
  y = b.concat([y, b.sigmoid(y)], 1);
  const loss = b.reduceMean(b.mul(y, b.tanh(b.globalAveragePool(y))), undefined, false);
  const gradients = appendGradients(b, loss, ['x', 'stem']);
  b.output(loss, 'loss');
  b.output(y, 'y');
  for (const name of ['x', 'stem']) b.output(gradients.get(name)!, `gradient/${name}`);
  const feeds = { x: randomTensor([2, 4, 13, 11], 'x'), stem: randomTensor([8, 4, 3, 3], 'stem', 0.3) };
  return { graph: b.build(), feeds };
}

const vitConfig = { ...vitTiny, id: 'vit-of-two-blocks', imageSize: 48, layers: 2 };

const networks: readonly (readonly [string, () => Promise<Network>])[] = [
  ['a network of the operators that imported models bring', async () => mobileNetwork()],
  [
    'a vision transformer of two blocks with LoRA on q and v',
    async () => trainingNetwork(createVit(vitConfig, randomVitWeights(vitConfig, 1)), 3),
  ],
  ['face-resnet-128 with LoRA', async () => trainingNetwork(await loadFaceResnet128(), 2)],
];

describe.each(tensorFlowLegs().map((leg) => [leg.title, leg] as const))('%s', (_title, { engine }) => {
  test.each(networks)('%s: loss and every gradient', async (_name, build) => {
    const { graph, feeds } = await build();
    const tensorsBefore = tf.memory().numTensors;

    const compared = await disagreements(engine, graph, feeds);

    expect(compared.filter(({ error }) => error >= tolerance)).toEqual([]);
    expect(compared.map(({ output }) => output)).toContain('loss');
    expect(tf.memory().numTensors).toBe(tensorsBefore);
  });

  test('the same step twice gives the same values, and nothing stays behind after a run', async () => {
    const { graph, feeds } = mobileNetwork();
    const executable = await engine.compile(graph, { device: 'cpu', threads: 1 });
    const first = await executable.run(feeds);
    const held = tf.memory().numTensors;

    const second = await executable.run(feeds);

    expect(second).toEqual(first);
    expect(tf.memory().numTensors).toBe(held);
    await executable.release();
  });
});
