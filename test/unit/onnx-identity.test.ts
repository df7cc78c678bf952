/** The same network under other names is the same base model, and trains under the same names; another network is not. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import onnxProto, { type onnx } from 'onnx-proto';
import { describe, expect, it, test } from 'vitest';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
import { createRandom } from '../../core/shared/random.ts';
import { halves, writeModel } from '../fixtures/onnx-files.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const { ModelProto } = onnxProto.onnx;
const settings = { id: 'imported', licence: 'MIT', ...halves };
const folder = fileURLToPath(new URL('../fixtures/onnx/', import.meta.url));
const networks = ['arcface-11-batch1', 'vit-16', 'squeeze-17', 'convnext-dynamo-18', 'mobilefacenet-12'];
const decode = async (name: string) => ModelProto.decode(await readFile(path.join(folder, `${name}.onnx`)));
const open = async (model: onnx.IModelProto) => openOnnxModel(await writeModel(model), settings);
const facts = (base: Awaited<ReturnType<typeof open>>) => ({
  sha256: base.sha256,
  weights: [...base.weights.keys()],
  layers: base.layers.map(({ module, block, weight }) => [module, block, weight]),
  presets: base.presets,
});

/** Other names for every value and node. */
function renamed(model: onnx.IModelProto): onnx.IModelProto {
  const names = new Map<string, string>([['', '']]);
  const rename = (name: string | null | undefined) => {
    const known = names.get(name ?? '') ?? `t${names.size}`;
    names.set(name ?? '', known);
    return known;
  };
  const { graph } = model;
  for (const node of graph!.node!) {
    node.name = '';
    node.input = node.input!.map(rename);
    node.output = node.output!.map(rename);
  }
  for (const tensor of graph!.initializer!) tensor.name = rename(tensor.name);
  for (const value of [...graph!.input!, ...graph!.output!]) value.name = rename(value.name);
  graph!.valueInfo = [];
  return model;
}

/** Nodes in another order in which each still comes after what it reads, initializers in any. */
function shuffled(model: onnx.IModelProto): onnx.IModelProto {
  const random = createRandom(4);
  const graph = model.graph!;
  const made = new Set(graph.node!.flatMap((node) => node.output!));
  const waiting = [...graph.node!];
  const ordered: onnx.INodeProto[] = [];
  while (waiting.length > 0) {
    const ready = waiting.filter((node) => node.input!.every((name) => !made.has(name)));
    const next = ready[random.integer(ready.length)]!;
    waiting.splice(waiting.indexOf(next), 1);
    for (const output of next.output!) made.delete(output);
    ordered.push(next);
  }
  graph.node = ordered;
  graph.initializer!.reverse();
  return model;
}

/** Constant nodes as initializers. */
function withoutConstants(model: onnx.IModelProto): onnx.IModelProto {
  const graph = model.graph!;
  const isConstant = (node: onnx.INodeProto) =>
    node.opType === 'Constant' && node.attribute!.some(({ name }) => name === 'value');
  for (const node of graph.node!.filter(isConstant))
    graph.initializer!.push({ ...node.attribute![0]!.t!, name: node.output![0]! });
  graph.node = graph.node!.filter((node) => !isConstant(node));
  return model;
}

/** A node that does nothing behind the input. */
function withIdentity(model: onnx.IModelProto): onnx.IModelProto {
  const graph = model.graph!;
  const [input] = graph.input!.filter(
    ({ name }) => !graph.initializer!.some((tensor) => tensor.name === name),
  );
  for (const node of graph.node!)
    node.input = node.input!.map((name) => (name === input!.name ? 'same' : name));
  graph.node!.unshift({ opType: 'Identity', input: [input!.name!], output: ['same'], name: 'nothing' });
  return model;
}

const same = { renamed, shuffled, withoutConstants, withIdentity };

describe('the same network', () => {
  it.each(networks.flatMap((name) => Object.keys(same).map((change) => [name, change] as const)))(
    '%s, %s',
    async (name, change) => {
      const original = await open(await decode(name));
      const changed = await open(same[change as keyof typeof same](await decode(name)));

      expect(facts(changed)).toEqual(facts(original));
    },
  );

  test('attributes that say what holds without them do not count', async () => {
    const model = await decode('squeeze-17');
    for (const node of model.graph!.node!) {
      node.attribute = node.attribute!.filter(
        ({ name, i, ints }) =>
          !(name === 'group' && Number(i) === 1) &&
          !(['dilations', 'strides'].includes(name!) && ints!.every((size) => Number(size) === 1)),
      );
    }

    expect((await open(model)).sha256).toBe((await open(await decode('squeeze-17'))).sha256);
  });
});

describe('another network', () => {
  const changes: Record<string, (graph: onnx.IGraphProto) => void> = {
    'another value of a weight': ({ initializer }) => {
      const tensor = initializer!.find(({ dataType, rawData }) => dataType === 1 && rawData!.length > 64)!;
      tensor.rawData = Uint8Array.from(tensor.rawData!, (byte, index) => (index === 0 ? byte ^ 1 : byte));
    },
    'another operator': ({ node }) => {
      node!.find(({ opType }) => opType === 'HardSwish' || opType === 'Relu')!.opType = 'Sigmoid';
    },
    'another stride': ({ node }) => {
      const conv = node!.find(
        ({ opType, attribute }) =>
          opType === 'Conv' && Number(attribute!.find(({ name }) => name === 'strides')?.ints?.[0]) === 2,
      )!;
      conv.attribute!.find(({ name }) => name === 'strides')!.ints = [1, 1];
    },
    'operands of a difference the other way round': ({ node }) => {
      const minus = node!.find(({ opType }) => opType === 'Mul')!;
      minus.opType = 'Sub';
    },
  };
  it.each(Object.keys(changes))('%s', async (name) => {
    const model = await decode('squeeze-17');
    changes[name]!(model.graph!);

    expect((await open(model)).sha256).not.toBe((await open(await decode('squeeze-17'))).sha256);
  });

  test('other pixels', async () => {
    const file = path.join(folder, 'squeeze-17.onnx');
    const other = { ...settings, mean: [0.4, 0.5, 0.5] as [number, number, number] };
    const bgr = { ...settings, channelOrder: 'bgr' as const };

    const hashes = await Promise.all(
      [settings, other, bgr].map(async (each) => (await openOnnxModel(file, each)).sha256),
    );

    expect(new Set(hashes).size).toBe(3);
  });
});

const shared = fileURLToPath(new URL('../../../shared/models/onnx/', import.meta.url));
test.skipIf(!existsSync(shared))('MobileFaceNet from two exports (skipped without ../shared)', async () => {
  const [one, other] = await Promise.all(
    ['mobilefacenet-112', 'mobilefacenet-112-other-names'].map((name) =>
      openOnnxModel(path.join(shared, `${name}.onnx`), settings),
    ),
  );

  expect(facts(one!)).toEqual(facts(other!));
});

test('identities stay what they are', async () => {
  const hashes = await Promise.all(
    networks.map(async (name) => (await open(await decode(name))).sha256.slice(0, 16)),
  );

  expect(hashes).toEqual(recorded);
});
/** Of this file's networks, in order. A change here is a new rule: installed models would no longer be what they were. */
const recorded = [
  '4d03cc41ad531e1a',
  '8117e1cb7dc58ca1',
  'de99e0dfd2c8cc1b',
  '0e8664d10b2eea5d',
  'a58ecfb78b3c2250',
];

test('what was imported when names counted keeps its identity and its names', async () => {
  using place = temporaryFolder();
  const catalogue = createCatalogue(place.dir);
  const file = path.join(folder, 'vit-16.onnx');
  const manifest = await catalogue.import(file, { id: 'old', ...halves });
  const before = await openOnnxModel(file, { ...settings, id: 'old' }, { identity: 1 });
  const { identity, preprocessing, ...old } = manifest;
  const { mean: _mean, deviation: _deviation, ...options } = manifest.options;
  expect([identity, preprocessing?.source]).toEqual([2, 'given']);
  // As version 0.1 wrote it: 0.5 was assumed, and nothing said of it among the options.
  const { writeManifest } = await import('../../core/models/installed-models.ts');
  await writeManifest(path.join(place.dir, 'old'), { ...old, options, sha256: before.sha256 });

  const opened = await createCatalogue(place.dir).load('old');

  expect(before.sha256).toBe(recordedByNames);
  expect(opened.sha256).toBe(before.sha256);
  expect(opened.layers.map(({ module }) => module).slice(0, 2)).toEqual([
    'patch_embed.proj',
    'blocks.0.attn.qkv',
  ]);
  expect(await createCatalogue(place.dir).verify('old')).toMatchObject([{ problem: null }]);
});
/** By version 0.1. */
const recordedByNames = 'e3148c41ea33ac7dfb24f04b62a8358fa7a959fe1191c5206aff194f8d08c7b1';
