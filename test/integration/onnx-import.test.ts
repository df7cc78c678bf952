/** Files of PyTorch's exporters: our graph gives what ONNX Runtime makes of the file itself. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { appendGradients } from '../../core/graph/autodiff.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { injectLora, loraBName } from '../../core/lora/inject.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { inspectOnnxFile } from '../../core/models/onnx/inspect.ts';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
import {
  encodeModel,
  halves,
  largestDifference,
  runBase,
  runOriginal,
  temporaryFolder,
  testPixels,
  writeModel,
} from '../fixtures/onnx-files.ts';

const folder = path.join(import.meta.dirname, '../fixtures/onnx');
const fixture = (name: string) => path.join(folder, `${name}.onnx`);
const settings = { id: 'imported', licence: 'MIT', ...halves };
const { ModelProto } = onnxProto.onnx;

const names = [
  'arcface-11-batch1',
  'arcface-14-training-form',
  'convnext-dynamo-18',
  'groupnorm-11',
  'groupnorm-dynamo-18-batch1',
  'mobilefacenet-12',
  'squeeze-17',
  'squeeze-dynamo-20-functions',
  'vit-12-batch1',
  'vit-16',
  'vit-dynamo-20',
];

describe('files of real exporters', () => {
  it.each(names)('%s gives the embeddings of the file for a batch of three', async (name) => {
    const pixels = testPixels(3, 32);
    const base = await openOnnxModel(fixture(name), settings);
    const wanted = await runOriginal(fixture(name), pixels, [3, 3, 32, 32]);
    const found = await runBase(base, pixels, 3);
    expect(found.length).toBe(3 * base.embeddingSize);
    expect(largestDifference(found, wanted)).toBeLessThan(2e-6);
  });

  it.each(names)('%s: every layer carries LoRA factors and gradients reach all of them', async (name) => {
    const base = await openOnnxModel(fixture(name), settings);
    const adapted = injectLora(
      base.buildGraph(2),
      base.layers.map((layer) => ({ layer, r: 2, scale: 1 })),
    );
    const builder = GraphBuilder.from(adapted);
    const loss = builder.reduceSum('embedding', undefined, false);
    const factors = base.layers.map(({ module }) => loraBName(module));
    const gradients = appendGradients(builder, loss, factors);
    expect(base.layers.length).toBeGreaterThanOrEqual(3);
    for (const factor of factors) {
      // A gradient that is a constant would mean that the loss does not depend on the layer.
      expect(builder.constantOf(gradients.get(factor)!)).toBeUndefined();
      expect(builder.dimsOf(gradients.get(factor)!)).toEqual(builder.dimsOf(factor));
    }
  });

  it.each(names)(
    '%s: weights stand in the graph under their names, statistics do not train',
    async (name) => {
      const base = await openOnnxModel(fixture(name), settings);
      const graph = base.buildGraph(1);
      for (const [weight, tensor] of base.weights) expect(graph.initializers.get(weight)).toEqual(tensor);
      for (const layer of base.layers) expect(base.weights.has(layer.weight)).toBe(true);
      const statistics = graph.nodes
        .filter((node) => node.op === 'BatchNormalization')
        .flatMap((node) => node.inputs.slice(3));
      expect([...base.weights.keys()].filter((weight) => statistics.includes(weight))).toEqual([]);
    },
  );
});

/** What the file calls the layers of a set. */
const namesInFile = (base: BaseModel, preset: string) =>
  base.layers
    .filter(({ module }) => base.presets[preset]!.includes(module))
    .map(({ peftModule }) => peftModule);

describe('names and presets', () => {
  it.each(['vit-12-batch1', 'vit-16', 'vit-dynamo-20'])(
    '%s: layers are called as in PyTorch',
    async (name) => {
      const base = await openOnnxModel(fixture(name), settings);
      const modules = base.layers.map(({ peftModule }) => peftModule);
      expect(modules.slice(0, 3)).toEqual(['patch_embed.proj', 'blocks.0.attn.qkv', 'blocks.0.attn.proj']);
      expect(base.layers.slice(0, 3).map(({ module }) => module)).toEqual(['conv_0', 'linear_1', 'linear_2']);
      expect(namesInFile(base, 'default')).toEqual(['blocks.0.attn.qkv', 'blocks.1.attn.qkv']);
      expect(base.layers.map(({ block }) => block)).toEqual([0, 1, 1, 1, 1, 2, 2, 2, 2]);
      expect(base.layers[1]!.weightDims).toEqual([36, 12]);
      // Class token and positions are weights, too.
      const widths = [...base.weights.values()].map(({ dims }) => dims.join());
      expect(widths).toContain('1,1,12');
      expect(widths.filter((dims) => /^1,\d+,12$/.test(dims)).length).toBeGreaterThanOrEqual(2);
    },
  );

  it.each(['vit-12-batch1', 'vit-16', 'vit-dynamo-20'])(
    '%s: decomposed normalisations and Gelus are one node each',
    async (name) => {
      const graph = (await openOnnxModel(fixture(name), settings)).buildGraph(1);
      const count = (op: string) => graph.nodes.filter((node) => node.op === op).length;
      expect([count('LayerNormalization'), count('Gelu'), count('Erf'), count('Sqrt')]).toEqual([5, 2, 0, 0]);
    },
  );

  it('takes the names of folded convolutions from their nodes', async () => {
    const base = await openOnnxModel(fixture('arcface-11-batch1'), settings);
    expect(base.layers.map(({ peftModule }) => peftModule)).toContain('layer1.0.downsample.0');
    expect(namesInFile(base, 'default')).not.toContain('conv1');
    expect(base.layers.at(-1)).toMatchObject({ peftModule: 'fc', kind: 'linear', weightDims: [16, 128] });
  });

  it('keeps the name of the head for the head that is trained', async () => {
    const base = await openOnnxModel(fixture('squeeze-17'), settings);
    expect(base.layers.at(-1)).toMatchObject({
      peftModule: 'head',
      module: expect.stringMatching(/^linear_\d+$/),
    });
    expect(base.weights.has('head.weight')).toBe(false);
  });

  it('scales an embedding of length 1 by the root of its size', async () => {
    const base = await openOnnxModel(fixture('mobilefacenet-12'), settings);
    expect(base.headGain).toBeCloseTo(Math.sqrt(12), 6);
    const given = await openOnnxModel(fixture('mobilefacenet-12'), { ...settings, headGain: 3 });
    expect(given.headGain).toBe(3);
  });
});

describe('settings', () => {
  it('takes an inner value as output and pools its tokens', async () => {
    const graph = ModelProto.decode(await readFile(fixture('vit-dynamo-20'))).graph!;
    const tokens = graph.node!.filter((node) => node.opType === 'LayerNormalization').at(-1)!.output![0]!;
    const refused = openOnnxModel(fixture('vit-dynamo-20'), { ...settings, output: tokens });
    await expect(refused).rejects.toMatchObject({ code: 'MODEL_FILE_INVALID', message: /pooling/ });
    const first = await openOnnxModel(fixture('vit-dynamo-20'), {
      ...settings,
      output: tokens,
      pooling: 'first',
    });
    const mean = await openOnnxModel(fixture('vit-dynamo-20'), {
      ...settings,
      output: tokens,
      pooling: 'mean',
    });
    const whole = await openOnnxModel(fixture('vit-dynamo-20'), settings);
    const pixels = testPixels(2, 32);
    const [a, b, c] = await Promise.all([first, mean, whole].map((base) => runBase(base, pixels, 2)));
    expect(largestDifference(a!, c!)).toBe(0);
    expect(largestDifference(b!, c!)).toBeGreaterThan(1e-3);
    expect(new Set([first, mean, whole].map(({ sha256 }) => sha256)).size).toBe(3);
  });

  it('reverses the channels and normalises as told', async () => {
    const mean: [number, number, number] = [0.1, 0.2, 0.3];
    const deviation: [number, number, number] = [0.2, 0.25, 0.5];
    const base = await openOnnxModel(fixture('squeeze-17'), {
      ...settings,
      mean,
      deviation,
      channelOrder: 'bgr',
    });
    const pixels = testPixels(1, 32);
    const area = 32 * 32;
    // What the default normalisation of the reference turns into the wanted blue, green and red planes.
    const prepared = new Float32Array(pixels.length);
    for (let index = 0; index < pixels.length; index++) {
      const channel = 2 - Math.floor(index / area);
      const value = pixels[channel * area + (index % area)]! / 255;
      prepared[index] = 255 * (0.5 + (0.5 * (value - mean[channel]!)) / deviation[channel]!);
    }
    const wanted = await runOriginal(fixture('squeeze-17'), prepared, [1, 3, 32, 32]);
    expect(largestDifference(await runBase(base, pixels, 1), wanted)).toBeLessThan(1e-5);
  });
});

describe('where the weights lie does not matter', () => {
  it('external data gives the same identity and embeddings', async () => {
    const file = await moveWeightsOut(fixture('vit-16'));
    const [inside, outside] = await Promise.all(
      [fixture('vit-16'), file].map((path) => openOnnxModel(path, settings)),
    );
    expect(outside!.sha256).toBe(inside!.sha256);
    const pixels = testPixels(1, 32);
    expect(await runBase(outside!, pixels, 1)).toEqual(await runBase(inside!, pixels, 1));
    const description = await inspectOnnxFile(file);
    expect(description.externalFiles).toEqual(['weights.bin']);
    expect(description.externalBytes).toBeGreaterThan(10_000);
  });

  it('float_data gives the same identity, another weight another one', async () => {
    const model = ModelProto.decode(await readFile(fixture('squeeze-17')));
    for (const tensor of model.graph!.initializer!) {
      if (tensor.dataType !== 1) continue;
      const bytes = Uint8Array.from(tensor.rawData!);
      tensor.floatData = [...new Float32Array(bytes.buffer)];
      tensor.rawData = null;
    }
    const base = await openOnnxModel(fixture('squeeze-17'), settings);
    const typed = await openOnnxModel(await writeModel(model), settings);
    expect(typed.sha256).toBe(base.sha256);
    model.graph!.initializer!.find(({ dataType }) => dataType === 1)!.floatData![0]! += 0.5;
    expect((await openOnnxModel(await writeModel(model), settings)).sha256).not.toBe(base.sha256);
  });
});

describe('inspection', () => {
  it('tells opset, producer, inputs, operators and parameters', async () => {
    const description = await inspectOnnxFile(fixture('arcface-11-batch1'));
    expect(description).toMatchObject({ opset: 11, unsupported: [], externalBytes: 0, externalFiles: [] });
    expect(description.producer).toMatch(/^pytorch/);
    expect(description.inputs).toEqual([{ name: 'input', dtype: 'FLOAT', dims: [1, 3, 32, 32] }]);
    expect(description.operators).toMatchObject({ Conv: 10, PRelu: 4, Gemm: 1 });
    expect(description.parameterCount).toBeGreaterThan(4000);
  });
});

/** The same model with its larger weights in a file beside it. */
async function moveWeightsOut(file: string): Promise<string> {
  const model = ModelProto.decode(await readFile(file));
  const target = await temporaryFolder();
  const parts: Buffer[] = [];
  let offset = 0;
  for (const tensor of model.graph!.initializer!) {
    const bytes = Buffer.from(tensor.rawData ?? []);
    if (bytes.length < 64) continue;
    tensor.rawData = null;
    tensor.dataLocation = 1;
    const entries = { location: 'weights.bin', offset: `${offset}`, length: `${bytes.length}` };
    tensor.externalData = Object.entries(entries).map(([key, value]) => ({ key, value }));
    parts.push(bytes);
    offset += bytes.length;
  }
  await writeFile(path.join(target, 'weights.bin'), Buffer.concat(parts));
  await writeFile(path.join(target, 'model.onnx'), encodeModel(model));
  return path.join(target, 'model.onnx');
}
