/** How the pixels of an ONNX file are normalised: recognised from its first nodes, given, or asked for; never guessed. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { onnx } from 'onnx-proto';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { inspectSource } from '../../core/models/inspect-model.ts';
import {
  findModelSource,
  formatOptions,
  type ImportOptions,
  openModelFiles,
} from '../../core/models/model-formats.ts';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
import { AppError } from '../../core/shared/errors.ts';
import {
  floats,
  halves,
  int64s,
  largestDifference,
  linearTail,
  type NodeSketch,
  runBase,
  sketchModel,
  testPixels,
  waves,
  writeModel,
} from '../fixtures/onnx-files.ts';

const described = { id: 'imported', licence: 'MIT' };
const tail = linearTail('f', 4);
/** A network behind the value `p`, which holds the pixels in the order of channels-first. */
const network = (
  nodes: readonly NodeSketch[],
  initializers: readonly onnx.ITensorProto[] = [],
  inputDims: readonly (number | string)[] = ['batch', 3, 8, 8],
) =>
  sketchModel({
    inputDims,
    nodes: [
      ...nodes,
      { op: 'Conv', in: [nodes.length === 0 ? 'input' : 'p', 'w'], out: ['c'] },
      { op: 'Relu', in: ['c'], out: ['r'] },
      { op: 'GlobalAveragePool', in: ['r'], out: ['g'] },
      { op: 'Flatten', in: ['g'], out: ['f'] },
      tail.node,
    ],
    initializers: [...initializers, floats('w', [4, 3, 3, 3], waves(108)), tail.weight],
  });

const node = (op: string, inputs: string[], out: string, attributes = {}): NodeSketch => ({
  op,
  in: inputs,
  out: [out],
  attributes,
});
const perChannel = (name: string, values: number[]) => floats(name, [1, 3, 1, 1], values);
const imageNet = { mean: [123.675, 116.28, 103.53], deviation: [58.395, 57.12, 57.375] };

interface Form {
  nodes: NodeSketch[];
  initializers: onnx.ITensorProto[];
  inputDims?: (number | string)[];
  range: 1 | 255;
  mean: number[];
  deviation: number[];
  channelOrder?: 'rgb' | 'bgr';
  channelSource?: 'recognised' | 'assumed';
}

const forms: Record<string, Form> = {
  'InsightFace: Sub 127.5, Mul 1/128': {
    nodes: [node('Sub', ['input', 'm'], 's'), node('Mul', ['s', 'k'], 'p')],
    initializers: [floats('m', [], [127.5]), floats('k', [], [1 / 128])],
    ...{ range: 255, mean: [127.5, 127.5, 127.5], deviation: [128, 128, 128] },
  },
  'Keras: Mul 1/127.5, Add -1, channels last': {
    nodes: [
      node('Mul', ['input', 'k'], 's'),
      node('Add', ['s', 'm'], 't'),
      node('Transpose', ['t'], 'p', { perm: [0, 3, 1, 2] }),
    ],
    initializers: [floats('k', [1], [1 / 127.5]), floats('m', [1], [-1])],
    inputDims: ['batch', 8, 8, 3],
    ...{ range: 255, mean: [127.5, 127.5, 127.5], deviation: [127.5, 127.5, 127.5] },
  },
  'torchvision inside: /255, − mean, / deviation': {
    nodes: [node('Div', ['input', 'k'], 'a'), node('Sub', ['a', 'm'], 'b'), node('Div', ['b', 'd'], 'p')],
    initializers: [
      floats('k', [], [255]),
      perChannel('m', [0.485, 0.456, 0.406]),
      perChannel('d', [0.229, 0.224, 0.225]),
    ],
    ...{ range: 255, ...imageNet, channelOrder: 'rgb', channelSource: 'recognised' },
  },
  'ImageNet of pixels of 0…1': {
    nodes: [node('Sub', ['input', 'm'], 'b'), node('Div', ['b', 'd'], 'p')],
    initializers: [perChannel('m', [0.485, 0.456, 0.406]), perChannel('d', [0.229, 0.224, 0.225])],
    ...{ range: 1, mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] },
    ...{ channelOrder: 'rgb', channelSource: 'recognised' },
  },
  'Caffe: means of blue, green and red': {
    nodes: [node('Sub', ['input', 'm'], 'p')],
    initializers: [perChannel('m', [103.939, 116.779, 123.68])],
    ...{ range: 255, mean: [103.939, 116.779, 123.68], deviation: [1, 1, 1] },
    ...{ channelOrder: 'bgr', channelSource: 'recognised' },
  },
  'Keras in Caffe’s way: the file itself turns red, green, blue round': {
    nodes: [node('Slice', ['input', 'start', 'end', 'axis', 'step'], 's'), node('Sub', ['s', 'm'], 'p')],
    initializers: [
      ...[int64s('start', [1], [-1]), int64s('end', [1], [-9223372036854775000])],
      ...[int64s('axis', [1], [1]), int64s('step', [1], [-1])],
      perChannel('m', [103.939, 116.779, 123.68]),
    ],
    ...{ range: 255, mean: [123.68, 116.779, 103.939], deviation: [1, 1, 1] },
    ...{ channelOrder: 'rgb', channelSource: 'recognised' },
  },
  'channels cut apart, shifted one by one and joined': {
    nodes: [
      { op: 'Split', in: ['input'], out: ['x', 'y', 'z'], attributes: { axis: 1 } },
      ...['x', 'y', 'z'].map((name) => node('Sub', [name, `m${name}`], `s${name}`)),
      node('Concat', ['sz', 'sy', 'sx'], 'j', { axis: 1 }),
      node('Mul', ['j', 'k'], 'p'),
    ],
    initializers: [
      ...[floats('mx', [], [123.675]), floats('my', [], [116.28]), floats('mz', [], [103.53])],
      floats('k', [], [1 / 57]),
    ],
    ...{ range: 255, mean: imageNet.mean, deviation: [57, 57, 57] },
    ...{ channelOrder: 'rgb', channelSource: 'recognised' },
  },
  'MXNet: BatchNormalization of the data': {
    nodes: [node('BatchNormalization', ['input', 'gain', 'b', 'm', 'v'], 'p', { epsilon: { float: 1e-5 } })],
    initializers: [
      ...[floats('gain', [3], [1, 1, 1]), floats('b', [3], [0, 0, 0])],
      ...[floats('m', [3], [124, 115, 103]), floats('v', [3], [3600, 3600, 3600])],
    ],
    ...{ range: 255, mean: [124, 115, 103], deviation: [60, 60, 60] },
    ...{ channelOrder: 'rgb', channelSource: 'recognised' },
  },
  'a convolution of single places that turns the channels round and scales them': {
    nodes: [node('Conv', ['input', 'k', 'm'], 'p')],
    initializers: [
      floats('k', [3, 3, 1, 1], [0, 0, 1 / 128, 0, 1 / 128, 0, 1 / 128, 0, 0]),
      floats('m', [3], [-1, -1, -1]),
    ],
    ...{ range: 255, mean: [128, 128, 128], deviation: [128, 128, 128] },
  },
  'pixels scaled to 0…1, the number cast and shaped on the way': {
    nodes: [
      node('Cast', ['k'], 'kf', { to: 1 }),
      node('Unsqueeze', ['kf', 'zero'], 'ku'),
      node('Div', ['input', 'ku'], 'p'),
    ],
    initializers: [int64s('k', [], [255]), int64s('zero', [1], [0])],
    ...{ range: 255, mean: [0, 0, 0], deviation: [255, 255, 255] },
  },
};

describe('what a file does to its pixels is recognised', () => {
  it.each(Object.keys(forms))('%s', async (name) => {
    const { nodes, initializers, inputDims, ...wanted } = forms[name]!;
    const file = await writeModel(network(nodes, initializers, inputDims));
    const base = await openOnnxModel(file, described);

    const { inside, ...preprocessing } = base.preprocessing!;
    expect(preprocessing).toEqual({
      source: 'recognised',
      channelOrder: wanted.channelOrder ?? 'rgb',
      channelSource: wanted.channelSource ?? 'assumed',
    });
    expect(inside!.range).toBe(wanted.range);
    for (const part of ['mean', 'deviation'] as const)
      for (const [channel, value] of wanted[part].entries())
        expect(inside![part][channel]).toBeCloseTo(value, 3);
    const pixels = testPixels(1, 8);
    const expected = await runRaw(pixels, wanted.range, wanted.channelOrder);
    expect(largestDifference(await runBase(base, pixels, 1), expected)).toBeLessThan(1e-5);

    /** ONNX Runtime on the file itself, given pixels of 0…range as they are. */
    async function runRaw(image: Float32Array, range: number, order = 'rgb') {
      const scaled = image.map((value) => (value * range) / 255);
      const ordered =
        order === 'bgr'
          ? planes(scaled)
              .reverse()
              .flatMap((plane) => [...plane])
          : [...scaled];
      const fed = inputDims === undefined ? ordered : channelsLast(ordered);
      const session = await InferenceSession.create(file, { logSeverityLevel: 3 });
      const size = inputDims === undefined ? [1, 3, 8, 8] : [1, 8, 8, 3];
      const outputs = await session.run({ input: new Tensor('float32', Float32Array.from(fed), size) });
      await session.release();
      return outputs['output']!.data as Float32Array;
    }
  });

  it('knows that pixels of whole numbers are 0…255', async () => {
    const model = network(
      [node('Cast', ['input'], 'x', { to: 1 }), node('Transpose', ['x'], 'p', { perm: [0, 3, 1, 2] })],
      [],
      ['batch', 8, 8, 3],
    );
    model.graph!.input![0]!.type!.tensorType!.elemType = 2;

    const base = await openOnnxModel(await writeModel(model), described);

    expect(base.normalisation).toEqual({ mean: [0, 0, 0], deviation: [1 / 255, 1 / 255, 1 / 255] });
  });
});

const planes = (image: Float32Array) =>
  [0, 1, 2].map((channel) => image.slice(64 * channel, 64 * (channel + 1)));
const channelsLast = (image: readonly number[]) =>
  image.map((_, index) => image[64 * (index % 3) + Math.floor(index / 3)]!);

async function refusal(model: onnx.IModelProto, options: object = {}, isNew = false): Promise<AppError> {
  const thrown: unknown = await openOnnxModel(
    await writeModel(model),
    { ...described, ...options },
    { isNew },
  ).catch((error: unknown) => error);
  expect(thrown).toBeInstanceOf(AppError);
  return thrown as AppError;
}

describe('what nobody says is asked for', () => {
  it('a file that takes normalised pixels', async () => {
    const error = await refusal(network([]));

    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toBe('model.onnx does not say how its pixels are normalised.');
    expect(error.action).toMatch(/--mean and --std .*--mean 0\.5 --std 0\.5.*--range 255 alone/);
  });

  it.each([
    [
      'a mean of 0',
      [node('BatchNormalization', ['input', 'gain', 'b', 'm', 'v'], 'p')],
      0,
      'BatchNormalization',
    ],
    ['a factor of 2', [node('Mul', ['input', 'k'], 'p')], 2, 'Mul'],
  ] as const)('a file whose own arithmetic fits no range: %s', async (_name, nodes, k, operator) => {
    const initializers = [
      ...[floats('gain', [3], [1, 1, 1]), floats('b', [3], [0.1, 0, 0])],
      ...[floats('m', [3], [0, 0, 0]), floats('v', [3], [1, 1, 1]), floats('k', [], [k])],
    ];

    const error = await refusal(network([...nodes], initializers));

    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toContain(`changes its pixels itself (${operator})`);
    expect(error.action).toMatch(/--range 255 .*--range 1/);
    const told = await openOnnxModel(await writeModel(network([...nodes], initializers)), {
      ...described,
      mean: [0, 0, 0],
      deviation: [1, 1, 1],
    });
    expect(told.preprocessing!.source).toBe('given');
  });

  it('half of it', async () => {
    expect((await refusal(network([]), { mean: [0.5, 0.5, 0.5] })).action).toContain(
      'Give --std beside --mean',
    );
  });

  it('leaves what was said as it is, and says that the file does it again', async () => {
    const { nodes, initializers } = forms['InsightFace: Sub 127.5, Mul 1/128']!;

    const base = await openOnnxModel(await writeModel(network(nodes, initializers)), {
      ...described,
      ...halves,
    });

    expect(base.normalisation).toEqual(halves);
    expect(base.preprocessing).toMatchObject({ source: 'given', inside: { range: 255 } });
  });

  it('an inspection tells what is missing, and an import with it gives another model', async () => {
    const file = await writeModel(network([]));

    const unsaid = await inspectSource(file, {});
    const said = await inspectSource(file, { mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] });
    const other = await inspectSource(file, { mean: [0.4, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] });

    expect(unsaid).toMatchObject({ sha256: null, problem: { code: 'CONFIG_INVALID' } });
    expect(said).toMatchObject({ problem: null, preprocessing: { channelSource: 'assumed' } });
    expect(new Set([said.sha256, other.sha256]).size).toBe(2);
  });
});

describe('the range of pixel values', () => {
  const settled = (options: ImportOptions) => formatOptions('onnx', options);
  it('is that of mean and deviation', () => {
    expect(settled({ range: 255, mean: [127.5, 127.5, 127.5], deviation: [127.5, 127.5, 127.5] })).toEqual(
      halves,
    );
    expect(settled({ range: 1, ...halves })).toEqual(halves);
    expect(settled(halves)).toEqual(halves);
  });

  it('stands alone for pixels that are fed as they are', () => {
    expect(settled({ range: 255 })).toEqual({ mean: [0, 0, 0], deviation: [1 / 255, 1 / 255, 1 / 255] });
    expect(settled({ range: 1 })).toEqual({ mean: [0, 0, 0], deviation: [1, 1, 1] });
  });

  it.each([
    { mean: [127.5, 127.5, 127.5], deviation: [128, 128, 128] },
    { mean: [0.5, 0.5, 0.5], deviation: [57, 57, 57] },
  ])('is not guessed from numbers that fit another: %j', (options) => {
    expect(() => settled(options)).toThrow(
      expect.objectContaining({ action: expect.stringContaining('--range 255') }),
    );
  });
});

describe('a network that ends in probabilities of classes is refused at import', () => {
  const ends: Record<string, NodeSketch[]> = {
    Softmax: [node('Softmax', ['logits'], 'output', { axis: 1 })],
    'LogSoftmax, and a Reshape behind it': [
      node('LogSoftmax', ['logits'], 'l', { axis: 1 }),
      node('Flatten', ['l'], 'output'),
    ],
    'Softmax of logits with a bias of their own': [
      node('Add', ['logits', 'bias'], 'b'),
      node('Softmax', ['b'], 'output', { axis: 1 }),
    ],
  };
  it.each(Object.keys(ends))('%s', async (name) => {
    const model = sketchModel({
      nodes: [
        node('Conv', ['input', 'w'], 'c'),
        node('GlobalAveragePool', ['c'], 'g'),
        node('Flatten', ['g'], 'features'),
        { op: 'Gemm', in: ['features', 'tail.weight'], out: ['logits'], attributes: { transB: 1 } },
        ...ends[name]!,
      ],
      initializers: [floats('w', [4, 3, 3, 3], waves(108)), tail.weight, floats('bias', [4], waves(4))],
    });

    const error = await refusal(model, halves, true);

    expect(error.message).toContain('holds probabilities of classes');
    expect(error.action).toContain('--output "features"');
    const file = await writeModel(model);
    const taken = await openOnnxModel(file, { ...described, ...halves, output: 'features' }, { isNew: true });
    expect(taken.embeddingSize).toBe(4);
    // What an earlier version imported stays usable.
    expect((await openOnnxModel(file, { ...described, ...halves })).embeddingSize).toBe(4);
  });
});

const probe = path.join(
  fileURLToPath(new URL('../../../shared/probes/onnx', import.meta.url)),
  'insightface_norm_in.onnx',
);
it.skipIf(!existsSync(probe))(
  'a file of a stranger that normalises inside (skipped without ../shared)',
  async () => {
    const source = await findModelSource(probe);
    const base = await openModelFiles(source.folder, {
      ...described,
      format: 'onnx',
      options: formatOptions('onnx', {}),
      files: source.files.map((name) => ({ name })),
    });

    expect(base.preprocessing).toMatchObject({
      source: 'recognised',
      inside: { range: 255, mean: [127.5, 127.5, 127.5] },
    });
  },
);
