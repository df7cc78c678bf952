import { beforeAll, describe, expect, test } from 'vitest';
import { collectParameters } from '../../core/engine/training-parameters.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import type { AdaptableLayer, BaseModel } from '../../core/models/base-model.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { statisticWeights, trainableWeights } from '../../core/models/trainable-weights.ts';
import { createVit } from '../../core/models/vit.ts';
import { type VitConfig, vitTiny } from '../../core/models/vit-config.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { loadBaseModel, randomVitWeights } from '../fixtures/base-models.ts';
import { gentleTraining } from '../fixtures/shape-crops.ts';

const small: VitConfig = { ...vitTiny, imageSize: 32, hiddenSize: 12, layers: 3, heads: 2, mlpSize: 24 };

/** As an importer leaves an ONNX network: names that tell nothing, and a BatchNormalization behind each layer. */
function importedNetwork(): BaseModel {
  const weights = new Map<string, FloatTensor>();
  const layers: AdaptableLayer[] = [];
  const conv = (name: string, out: number, inner: number, block: number) => {
    const weightDims = [out, inner, 3, 3];
    weights.set(name, floatTensor(weightDims));
    layers.push({ module: name, kind: 'conv', weight: name, weightDims, block });
  };
  conv('1001', 4, 3, 0);
  for (const name of ['1002', '1003', '1004', '1005']) weights.set(name, floatTensor([4]));
  weights.set('slope_a', floatTensor([4, 1, 1]));
  conv('1006', 4, 4, 1);
  for (const name of ['1007', '1008', '1009', '1010']) weights.set(name, floatTensor([4]));
  weights.set('slope_b', floatTensor([4, 1, 1]));
  return {
    id: 'imported',
    sha256: '0'.repeat(64),
    inputSize: 8,
    alignment: 'none',
    embeddingSize: 4,
    licence: 'none',
    weights,
    layers,
    presets: { default: ['1001', '1006'], all: ['1001', '1006'] },
    headGain: 1,
    buildGraph(batch) {
      const builder = new GraphBuilder();
      for (const [name, tensor] of weights) builder.constant(tensor, name);
      let x = builder.input('pixels', 'float32', [batch, 3, 8, 8]);
      const stage = (names: readonly string[], slope: string) => {
        x = builder.conv(x, names[0]!, { pads: [1, 1, 1, 1] });
        x = builder.append1('BatchNormalization', [x, ...names.slice(1)], {});
        x = builder.append1('PRelu', [x, slope], {});
      };
      stage(['1001', '1002', '1003', '1004', '1005'], 'slope_a');
      stage(['1006', '1007', '1008', '1009', '1010'], 'slope_b');
      builder.output(builder.flatten(builder.globalAveragePool(x)), 'embedding');
      return builder.build();
    },
  };
}

describe('last-k', () => {
  let face: BaseModel;
  beforeAll(async () => {
    face = await loadBaseModel('face-resnet-128');
  });

  test('of the face network: layers and their biases', () => {
    expect(trainableWeights(face, 'last-k', 2)).toEqual([
      'conv256_down_out.conv1.weight',
      'conv256_down_out.conv1.bias',
      'conv256_down_out.conv2.weight',
      'conv256_down_out.conv2.bias',
      'fc.weight',
    ]);
    expect(trainableWeights(face, 'last-k', 1)).toEqual(['fc.weight']);
  });

  test('of a vision transformer: the block with its norms, and the last norm', () => {
    const vit = createVit(small, randomVitWeights(small, 1));
    const names = trainableWeights(vit, 'last-k', 1);

    expect(names).toEqual(
      [...vit.weights.keys()].filter((name) => name.startsWith('blocks.2.') || name.startsWith('norm.')),
    );
    expect(names).toContain('blocks.2.norm1.weight');
    expect(names).toContain('norm.bias');
    expect(trainableWeights(vit, 'last-k', 2)).toContain('blocks.1.norm1.bias');
    expect(trainableWeights(vit, 'last-k', 2)).not.toContain('blocks.0.mlp.fc2.bias');
  });

  test('of an imported network: what is used behind the block, but no running statistics', () => {
    expect(trainableWeights(importedNetwork(), 'last-k', 1)).toEqual(['1006', '1007', '1008', 'slope_b']);
  });

  test('of as many blocks as there are: all but what comes before the first layer', () => {
    const vit = createVit(small, randomVitWeights(small, 1));
    const left = [...vit.weights.keys()].filter((name) => !trainableWeights(vit, 'last-k', 3).includes(name));
    expect(left).toEqual(expect.arrayContaining(['cls_token', 'pos_embed', 'patch_embed.proj.weight']));
    expect(left).toHaveLength(4);
  });
});

describe('full', () => {
  test('sends every weight and trains all but running statistics', () => {
    const base = importedNetwork();
    const names = trainableWeights(base, 'full', 0);
    const state = initialState(base, { classes: ['a', 'b'], targetModules: 'all', r: 0, scale: 1, seed: 1 });
    const job = { mode: 'full', lastK: 0, trains: 'both', training: gentleTraining } as const;

    const parameters = collectParameters(job, base, state);

    expect(names).toEqual([...base.weights.keys()]);
    expect([...statisticWeights(base, names)].sort()).toEqual(['1004', '1005', '1009', '1010']);
    expect(parameters.trainedWeights).toEqual(names);
    expect(parameters.trainables).not.toContain('1009');
    expect(parameters.trainables).toEqual(
      expect.arrayContaining(['1001', 'slope_a', 'head.weight', 'head.bias']),
    );
  });
});

test('the other modes train no base weights, and an arcface head no bias', () => {
  const base = importedNetwork();
  const state = initialState(base, { classes: ['a', 'b'], targetModules: 'all', r: 2, scale: 1, seed: 1 });
  const training = { ...gentleTraining, head: 'arcface' as const };

  expect(trainableWeights(base, 'lora', 2)).toEqual([]);
  expect(trainableWeights(base, 'head', 2)).toEqual([]);
  const trainables = (trains: 'both' | 'a' | 'b') =>
    collectParameters({ mode: 'lora', lastK: 0, trains, training }, base, state).trainables;
  const [a, b] = [
    ['1001.lora_A', '1006.lora_A'],
    ['1001.lora_B', '1006.lora_B'],
  ];
  expect(trainables('both')).toEqual([
    '1001.lora_A',
    '1001.lora_B',
    '1006.lora_A',
    '1006.lora_B',
    'head.weight',
  ]);
  expect(trainables('a')).toEqual([...a!, 'head.weight']);
  expect(trainables('b')).toEqual([...b!, 'head.weight']);
});
