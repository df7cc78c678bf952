/** A trained state as one ONNX file: ONNX Runtime gives the same embeddings and logits as the adapted graph. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import onnxProto from 'onnx-proto';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { encodeOnnxModel } from '../../core/graph/encode.ts';
import { injectLora, loraAName, loraBName, loraDims } from '../../core/lora/inject.ts';
import type { LoraLayer, ModelState } from '../../core/lora/model-state.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { exportOnnxModel } from '../../core/models/onnx/export.ts';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
import { elementCount, floatTensor } from '../../core/shared/tensor.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { halves, largestDifference, temporaryFolder, testPixels, waves } from '../fixtures/onnx-files.ts';

const fixture = (name: string) => path.join(import.meta.dirname, '../fixtures/onnx', `${name}.onnx`);
const classes = ['one', 'two', 'three'];

function small(dims: readonly number[], step: number) {
  return floatTensor(
    dims,
    Float32Array.from(waves(elementCount(dims), step), (value) => 0.2 * value),
  );
}

function stateOf(base: BaseModel): ModelState {
  const lora = base.layers.map((layer): [string, LoraLayer] => {
    const dims = loraDims(layer, 2);
    const factors = { a: small(dims.a, 0.37), b: small(dims.b, 0.53) };
    return [layer.module, { module: layer.module, r: 2, scale: 0.5, ...factors }];
  });
  const head = new Map([
    ['weight', small([3, base.embeddingSize], 0.91)],
    ['bias', small([3], 1.3)],
  ]);
  return { baseSha256: base.sha256, classes, lora: new Map(lora), head, base: new Map() };
}

/** The embedding of the graph with the factors beside the weights, not merged. */
async function adaptedEmbedding(base: BaseModel, state: ModelState, pixels: Float32Array, batch: number) {
  const injections = base.layers.map((layer) => ({ layer, r: 2, scale: 0.5 }));
  const graph = injectLora(base.buildGraph(batch), injections);
  const session = await InferenceSession.create(encodeOnnxModel(graph), { logSeverityLevel: 3 });
  const feeds: Record<string, Tensor> = { pixels: feed(base, pixels, batch) };
  for (const { module, a, b } of state.lora.values()) {
    feeds[loraAName(module)] = new Tensor('float32', a.data, a.dims);
    feeds[loraBName(module)] = new Tensor('float32', b.data, b.dims);
  }
  const outputs = await session.run(feeds);
  await session.release();
  return outputs['embedding']!.data as Float32Array;
}

function feed({ inputSize }: BaseModel, pixels: Float32Array, batch: number): Tensor {
  return new Tensor('float32', pixels, [batch, 3, inputSize, inputSize]);
}

async function exported(base: BaseModel, state: ModelState) {
  const folder = await temporaryFolder();
  const file = path.join(folder, 'merged.onnx');
  const result = await exportOnnxModel(base, state, file);
  return { folder, file, result, session: await InferenceSession.create(file, { logSeverityLevel: 3 }) };
}

const fixtures = [
  'arcface-11-batch1',
  'convnext-dynamo-18',
  'groupnorm-11',
  'vit-12-batch1',
  'vit-16',
  'vit-dynamo-20',
];

describe('exportOnnxModel', () => {
  it.each(fixtures)('%s: merged file gives the embeddings of the adapter for any batch', async (name) => {
    const base = await openOnnxModel(fixture(name), { id: 'imported', licence: 'MIT', ...halves });
    const state = stateOf(base);
    const { session, result } = await exported(base, state);
    expect(result.isBatchOpen).toBe(true);
    for (const batch of [1, 4]) {
      const pixels = testPixels(batch, base.inputSize);
      const outputs = await session.run({ pixels: feed(base, pixels, batch) });
      const wanted = await adaptedEmbedding(base, state, pixels, batch);
      const embedding = outputs['embedding']!.data as Float32Array;
      expect(outputs['logits']!.dims).toEqual([batch, 3]);
      const scale = Math.max(...wanted.map(Math.abs));
      expect(largestDifference(embedding, wanted)).toBeLessThan(2e-5 * Math.max(1, scale));
      expect(
        largestDifference(outputs['logits']!.data as Float32Array, logitsOf(base, state, embedding)),
      ).toBeLessThan(1e-4 * Math.max(1, scale));
    }
    await session.release();
  });

  it('exports the built-in network with an open batch', async () => {
    const base = await loadBaseModel('face-resnet-128');
    const state = { ...stateOf(base), lora: new Map() };
    const { session, result } = await exported(base, state);
    expect(result.isBatchOpen).toBe(true);
    const outputs = await session.run({ pixels: feed(base, testPixels(2, 150), 2) });
    expect(outputs['embedding']!.dims).toEqual([2, 128]);
    await session.release();
  });

  it('names the base and the classes in its metadata and can be imported again', async () => {
    const base = await openOnnxModel(fixture('vit-16'), { id: 'imported', licence: 'MIT', ...halves });
    const { file, folder, result, session } = await exported(base, stateOf(base));
    const bytes = await readFile(file);
    const metadata = onnxProto.onnx.ModelProto.decode(bytes).metadataProps!;
    const entries = Object.fromEntries(metadata.map(({ key, value }) => [key, value]));
    expect(JSON.parse(entries['anneal.classes']!)).toEqual(classes);
    expect(entries['anneal.base_sha256']).toBe(base.sha256);
    expect(result.sizeBytes).toBe(bytes.length);
    expect(await readdir(folder)).toEqual(['merged.onnx']);
    const pixels = testPixels(1, 32);
    const outputs = await session.run({ pixels: feed(base, pixels, 1) });
    // Its own normalisation is inside: pixels go in as they are.
    const again = await openOnnxModel(file, {
      id: 'again',
      licence: 'MIT',
      mean: [0, 0, 0],
      deviation: [1 / 255, 1 / 255, 1 / 255],
      output: 'embedding',
    });
    const rerun = await InferenceSession.create(encodeOnnxModel(again.buildGraph(1)), {
      logSeverityLevel: 3,
    });
    const found = await rerun.run({ pixels: feed(base, pixels, 1) });
    expect(
      largestDifference(found['embedding']!.data as Float32Array, outputs['embedding']!.data as Float32Array),
    ).toBeLessThan(2e-6);
    await Promise.all([rerun.release(), session.release()]);
  });

  it('refuses a state of another base and a head that does not fit, and writes nothing', async () => {
    const base = await openOnnxModel(fixture('squeeze-17'), { id: 'imported', licence: 'MIT', ...halves });
    const state = stateOf(base);
    const folder = await temporaryFolder();
    const file = path.join(folder, 'merged.onnx');
    const foreign = { ...state, baseSha256: '0'.repeat(64) };
    const headless = { ...state, classes: ['one'] };
    await expect(exportOnnxModel(base, foreign, file)).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' });
    await expect(exportOnnxModel(base, headless, file)).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' });
    const nowhere = path.join(folder, 'missing', 'merged.onnx');
    await expect(exportOnnxModel(base, state, nowhere)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    expect(await readdir(folder)).toEqual([]);
  });
});

function logitsOf(base: BaseModel, state: ModelState, embedding: Float32Array): Float32Array {
  const weight = state.head.get('weight')!.data;
  const bias = state.head.get('bias')!.data;
  const size = base.embeddingSize;
  return Float32Array.from({ length: (embedding.length / size) * 3 }, (_, index) => {
    const [row, column] = [Math.floor(index / 3), index % 3];
    let sum = bias[column]!;
    for (let k = 0; k < size; k++)
      sum += base.headGain * embedding[row * size + k]! * weight[column * size + k]!;
    return sum;
  });
}
