/** Forms of opsets 7 to 24 beyond those of onnx-normalise.test.ts: our graph gives what ONNX Runtime makes of the file. */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import onnxProto, { type onnx } from 'onnx-proto';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { inspectOnnxFile } from '../../core/models/onnx/inspect.ts';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
import { AppError } from '../../core/shared/errors.ts';
import {
  floats,
  halves,
  int64s,
  largestDifference,
  linearTail,
  type ModelSketch,
  type NodeSketch,
  runBase,
  runOriginal,
  sketchModel,
  testPixels,
  waves,
  writeModel,
} from '../fixtures/onnx-files.ts';

const settings = { id: 'imported', licence: 'MIT', ...halves };
const { AttributeProto } = onnxProto.onnx;
const conv: NodeSketch = { op: 'Conv', in: ['input', 'w'], out: ['c'], attributes: { pads: [1, 1, 1, 1] } };
const weight = floats('w', [4, 3, 3, 3], waves(108));
const tail = linearTail('f', 4);
const tailBias = floats('tail.bias', [4], waves(4));
/** `x` [batch, 4, …] to the embedding, so that places count differently. */
const ending: NodeSketch[] = [
  { op: 'Mul', in: ['x', 'x'], out: ['squares'] },
  { op: 'GlobalAveragePool', in: ['squares'], out: ['pooled'] },
  { op: 'Flatten', in: ['pooled'], out: ['f'] },
  // Before opset 11 a Gemm had three inputs.
  { ...tail.node, in: [...tail.node.in, 'tail.bias'] },
];
const floatList = (...values: number[]): onnx.IAttributeProto => ({
  type: AttributeProto.AttributeType.FLOATS,
  floats: values,
});

interface Form extends Omit<ModelSketch, 'nodes'> {
  nodes: readonly NodeSketch[];
  /** Attributes that a sketch has no words for, by the node's name. */
  floatLists?: Record<string, Record<string, onnx.IAttributeProto>>;
  /** Of ONNX Runtime's values; exact forms need none. */
  tolerance?: number;
}
const one = (op: string, attributes = {}, inputs: string[] = []): NodeSketch[] => [
  conv,
  { op, in: ['c', ...inputs], out: ['x'], attributes, name: 'it' },
];
const forms: Record<string, Form> = {
  'opset 7: Clip with its bounds as attributes': {
    opset: 7,
    nodes: one('Clip', { min: { float: -0.3 }, max: { float: 0.7 } }),
  },
  'opset 10: Clip with one bound': { opset: 10, nodes: one('Clip', { max: { float: 0.2 } }) },
  'opset 9: Slice with starts, ends and axes as attributes': {
    opset: 9,
    nodes: one('Slice', { starts: [1, 0], ends: [7, -2], axes: [2, 3] }),
  },
  'opset 8: Pad with pads and value as attributes': {
    opset: 8,
    nodes: one('Pad', { pads: [0, 0, 1, 2, 0, 0, 0, 1], mode: 'constant', value: { float: 0.4 } }),
  },
  'opset 7: Upsample with scales as attribute': {
    opset: 7,
    nodes: one('Upsample', { mode: 'nearest' }),
    floatLists: { it: { scales: floatList(1, 1, 2, 1.5) } },
  },
  'opset 9: Upsample, linear': {
    opset: 9,
    nodes: one('Upsample', { mode: 'linear' }, ['scales']),
    initializers: [floats('scales', [4], [1, 1, 2, 2])],
    tolerance: 1e-5,
  },
  'opset 10: Resize of two inputs': {
    opset: 10,
    nodes: one('Resize', { mode: 'linear' }, ['scales']),
    initializers: [floats('scales', [4], [1, 1, 1.5, 2])],
    tolerance: 1e-5,
  },
  'opset 10: Resize to fewer places': {
    opset: 10,
    nodes: one('Resize', { mode: 'nearest' }, ['scales']),
    initializers: [floats('scales', [4], [1, 1, 0.5, 0.75])],
  },
  'opset 7: BatchNormalization, Dropout, PRelu': {
    opset: 7,
    nodes: [
      conv,
      { op: 'BatchNormalization', in: ['c', 'g', 'b', 'm', 'v'], out: ['n'] },
      { op: 'Dropout', in: ['n'], out: ['d'], attributes: { ratio: { float: 0.4 } } },
      { op: 'PRelu', in: ['d', 's'], out: ['x'] },
    ],
    initializers: [
      ...['g', 'b', 'm'].map((name, at) => floats(name, [4], waves(4, 0.3 + at))),
      floats('v', [4], [1, 2, 0.5, 1.5]),
      floats('s', [4, 1, 1], [0.1, 0.2, -0.1, 0.3]),
    ],
  },
  'opset 23: RMSNormalization': {
    opset: 23,
    nodes: one('RMSNormalization', { axis: -1, epsilon: { float: 1e-3 } }, ['scale']),
    initializers: [floats('scale', [8], waves(8))],
  },
  LRN: { nodes: one('LRN', { size: 3, alpha: { float: 0.5 }, bias: { float: 0.7 } }) },
  'a convolution and pools of sequences': {
    nodes: [
      conv,
      { op: 'Reshape', in: ['c', 'rows'], out: ['r'] },
      {
        op: 'Conv',
        in: ['r', 'k', 'kb'],
        out: ['s'],
        attributes: { kernel_shape: [3], pads: [2, 1], strides: [2], dilations: [2], group: 2 },
      },
      { op: 'MaxPool', in: ['s'], out: ['p'], attributes: { kernel_shape: [3], strides: [1], pads: [1, 0] } },
      { op: 'ConvTranspose', in: ['p', 't'], out: ['u'], attributes: { strides: [2], output_padding: [1] } },
      {
        op: 'AveragePool',
        in: ['u'],
        out: ['x'],
        attributes: { kernel_shape: [2], count_include_pad: 1, pads: [1, 1] },
      },
    ],
    initializers: [
      int64s('rows', [3], [0, 4, 64]),
      floats('k', [4, 2, 3], waves(24)),
      floats('kb', [4], waves(4)),
      floats('t', [4, 4, 3], waves(48)),
    ],
  },
  'comparisons and logic': {
    nodes: [
      conv,
      { op: 'GreaterOrEqual', in: ['c', 'low'], out: ['ge'] },
      { op: 'LessOrEqual', in: ['c', 'high'], out: ['le'] },
      { op: 'And', in: ['ge', 'le'], out: ['inside'] },
      { op: 'Not', in: ['inside'], out: ['outside'] },
      { op: 'Xor', in: ['outside', 'ge'], out: ['odd'] },
      { op: 'Or', in: ['odd', 'outside'], out: ['any'] },
      { op: 'Where', in: ['inside', 'c', 'low'], out: ['y'] },
      { op: 'Where', in: ['any', 'y', 'high'], out: ['x'] },
    ],
    initializers: [floats('low', [], [-0.4]), floats('high', [], [0.6])],
  },
  'constants that ONNX Runtime computes: a standardised weight, a mask of Trilu, places of NonZero': {
    nodes: [
      { op: 'ReduceMean', in: ['big'], out: ['mean'], attributes: { axes: [1, 2, 3] } },
      { op: 'Sub', in: ['big', 'mean'], out: ['centred'] },
      { op: 'ReduceSumSquare', in: ['centred'], out: ['squares_of'], attributes: { axes: [1, 2, 3] } },
      { op: 'Sqrt', in: ['squares_of'], out: ['length'] },
      { op: 'Div', in: ['centred', 'length'], out: ['standard'] },
      { op: 'Conv', in: ['input', 'standard'], out: ['wide'], attributes: { pads: [8, 8, 8, 8] } },
      { op: 'Trilu', in: ['ones'], out: ['mask'] },
      { op: 'Mul', in: ['wide', 'mask'], out: ['masked'] },
      { op: 'NonZero', in: ['picks'], out: ['places'] },
      { op: 'Squeeze', in: ['places', 'zero'], out: ['indices'] },
      { op: 'Gather', in: ['masked', 'indices'], out: ['x'], attributes: { axis: 1 } },
    ],
    initializers: [
      floats('big', [6, 3, 17, 17], waves(6 * 3 * 289)),
      floats('ones', [8, 8], new Array<number>(64).fill(1)),
      floats('picks', [6], [1, 0, 2, 3, 0, 4]),
      int64s('zero', [1], [0]),
    ],
    tolerance: 1e-5,
  },
  'attention of ONNX Runtime’s optimiser, with a bias': {
    nodes: [
      conv,
      { op: 'Reshape', in: ['c', 'tokens'], out: ['r'] },
      { op: 'Transpose', in: ['r'], out: ['t'], attributes: { perm: [0, 2, 1] } },
      {
        op: 'Attention',
        domain: 'com.microsoft',
        in: ['t', 'qkv', 'qkvb'],
        out: ['a'],
        attributes: { num_heads: 2 },
      },
      { op: 'Transpose', in: ['a'], out: ['x'], attributes: { perm: [0, 2, 1] } },
    ],
    initializers: [
      int64s('tokens', [3], [0, 4, 64]),
      floats('qkv', [4, 12], waves(48)),
      floats('qkvb', [12], waves(12, 0.4)),
    ],
    tolerance: 1e-5,
  },
};

async function build(form: Form): Promise<string> {
  const model = sketchModel({
    ...form,
    nodes: [...form.nodes, ...ending],
    initializers: [...(form.initializers ?? []), weight, tail.weight, tailBias],
  });
  for (const [name, attributes] of Object.entries(form.floatLists ?? {})) {
    const node = model.graph!.node!.find((each) => each.name === name)!;
    for (const [key, value] of Object.entries(attributes)) node.attribute!.push({ ...value, name: key });
  }
  return writeModel(model);
}

describe('forms', () => {
  it.each(Object.keys(forms))('%s', async (name) => {
    const file = await build(forms[name]!);
    const pixels = testPixels(3, 8);

    const base = await openOnnxModel(file, settings);
    const found = await runBase(base, pixels, 3);

    const wanted = await runOriginal(file, pixels, [3, 3, 8, 8]);
    const tolerance = forms[name]!.tolerance ?? 2e-6;
    expect(largestDifference(found, wanted)).toBeLessThan(tolerance * Math.max(1, ...wanted.map(Math.abs)));
    expect((await inspectOnnxFile(file)).unsupported).toEqual([]);
  });
});

/** An If whose branches are graphs of their own. */
function branching(condition: readonly NodeSketch[], initializers: onnx.ITensorProto[]): onnx.IModelProto {
  const model = sketchModel({
    nodes: [conv, ...condition, { op: 'If', in: ['condition'], out: ['x'], name: 'choice' }, ...ending],
    initializers: [...initializers, weight, tail.weight, tailBias],
  });
  const branch = (op: string, constant: number): onnx.IGraphProto => ({
    name: op,
    node: [
      { opType: op, input: ['c', 'inner'], output: ['y'] },
      { opType: 'Relu', input: ['y'], output: ['chosen'] },
    ],
    initializer: [floats('inner', [], [constant])],
    output: [{ name: 'chosen', type: { tensorType: { elemType: 1 } } }],
  });
  model.graph!.node!.find(({ name }) => name === 'choice')!.attribute = [
    { name: 'then_branch', type: AttributeProto.AttributeType.GRAPH, g: branch('Add', 0.3) },
    { name: 'else_branch', type: AttributeProto.AttributeType.GRAPH, g: branch('Mul', -1.5) },
  ];
  return model;
}

describe('an If', () => {
  const bool = (value: number): onnx.ITensorProto => ({
    name: 'condition',
    dims: [],
    dataType: 9,
    rawData: Uint8Array.of(value),
  });
  it.each([
    ['true', branching([], [bool(1)])],
    ['false', branching([], [bool(0)])],
    [
      'of the size of the image',
      branching(
        [
          { op: 'Shape', in: ['input'], out: ['shape'] },
          { op: 'Gather', in: ['shape', 'two'], out: ['height'] },
          { op: 'Equal', in: ['height', 'eight'], out: ['condition'] },
        ],
        [int64s('two', [], [2]), int64s('eight', [], [8])],
      ),
    ],
  ])('takes the branch of a condition that is %s', async (_name, model) => {
    const file = await writeModel(model);
    const pixels = testPixels(2, 8);
    const found = await runBase(await openOnnxModel(file, settings), pixels, 2);
    expect(largestDifference(found, await runOriginal(file, pixels, [2, 3, 8, 8]))).toBeLessThan(2e-6);
  });

  it('that looks at the image is refused', async () => {
    const model = branching(
      [
        { op: 'ReduceMax', in: ['c'], out: ['largest'], attributes: { keepdims: 0 } },
        { op: 'Greater', in: ['largest', 'bound'], out: ['condition'] },
      ],
      [floats('bound', [], [0])],
    );
    await expect(openOnnxModel(await writeModel(model), settings)).rejects.toMatchObject({
      code: 'OPERATOR_UNSUPPORTED',
      message: expect.stringContaining('"choice" (If) takes its condition from the image'),
    });
  });
});

describe('activations that are rounded to whole numbers', () => {
  const quantised = (scale: number, zero: number, type: 2 | 3) =>
    sketchModel({
      nodes: [
        conv,
        { op: 'QuantizeLinear', in: ['c', 'scale', 'zero'], out: ['q'] },
        { op: 'MaxPool', in: ['q'], out: ['p'], attributes: { kernel_shape: [1, 1] } },
        { op: 'DequantizeLinear', in: ['p', 'scale', 'zero'], out: ['x'] },
        ...ending,
      ],
      initializers: [
        floats('scale', [], [scale]),
        { name: 'zero', dims: [], dataType: type, int32Data: [zero] },
        weight,
        tail.weight,
        tailBias,
      ],
    });
  it.each([
    ['signed', 0.01, 0, 3],
    ['unsigned, around 128', 0.01, 128, 2],
    ['unsigned from 0, which cuts off what is negative', 0.01, 0, 2],
    ['a range that cuts off what is large', 0.002, -128, 3],
  ] as const)('%s: the range stays, the rounding goes', async (_name, scale, zero, type) => {
    const file = await writeModel(quantised(scale, zero, type));
    const pixels = testPixels(2, 8);
    const found = await runBase(await openOnnxModel(file, settings), pixels, 2);
    const wanted = await runOriginal(file, pixels, [2, 3, 8, 8]);
    const largest = Math.max(...wanted.map(Math.abs));
    expect(largestDifference(found, wanted) / largest).toBeLessThan(0.02);
    expect(largestDifference(found, wanted)).toBeGreaterThan(0);
  });
});

const probes = fileURLToPath(new URL('../../../shared/probes/onnx/', import.meta.url));
/** Refused with a sentence about this. */
const refused: Record<string, RegExp> = {
  argmax_mask: /\(ArgMax\)/,
  celu: /\(Celu\)/,
  clip_dynbound: /\(Clip\) takes its input 1 from the image/,
  einsum: /\(Einsum\)/,
  floor: /\(Floor\)/,
  gathernd: /\(GatherND\)/,
  globallppool: /\(GlobalLpPool\)/,
  grey: /3 colour channels/,
  nonsquare: /20 × 16 instead of squares/,
  pad_neg_edge: /\(Pad\)/,
  reduceprod: /\(ReduceProd\)/,
  shared_weight_batch: /\(Gemm\)/,
  sin_cos: /\(Sin\)/,
  thresholdedrelu: /\(ThresholdedRelu\)/,
  topk: /\(TopK\)/,
};
/** ONNX Runtime does not run the file itself on this processor, or not with floats. */
const unrunnable = ['bf16', 'double', 'fp16', 'split18_uneven', 'uint8_input'];
describe.skipIf(!existsSync(probes))('files of a stranger (skipped without ../shared)', () => {
  const names = existsSync(probes) ? readdirSync(probes).map((file) => path.basename(file, '.onnx')) : [];
  it.each(names)('%s', async (name) => {
    const file = path.join(probes, `${name}.onnx`);
    const extra = {
      ...(name.startsWith('dyn_') ? { inputSize: 16 } : {}),
      ...(name === 'two_outputs' ? { output: (await inspectOnnxFile(file)).outputs[0]!.name } : {}),
    };
    const opened = openOnnxModel(file, { ...settings, ...extra });
    if (name in refused) {
      const error = (await opened.catch((thrown: unknown) => thrown)) as AppError;
      expect(error).toBeInstanceOf(AppError);
      expect(error.message).toMatch(refused[name]!);
      expect(error.action).not.toMatch(/^(Get a new copy|Choose a model without)/);
      return;
    }
    const base = await opened;
    if (unrunnable.includes(name)) return;
    const side = base.inputSize;
    const pixels = testPixels(2, side);
    const wanted = await runFile(file, pixels, side, extra.output);
    const found = await runBase(base, pixels, 2);
    expect(largestDifference(found, wanted)).toBeLessThan(1e-5 * Math.max(1, ...wanted.map(Math.abs)));
  });
});

async function runFile(
  file: string,
  pixels: Float32Array,
  side: number,
  output?: string,
): Promise<Float32Array> {
  const session = await InferenceSession.create(file, { logSeverityLevel: 4 });
  const [meta] = session.inputMetadata;
  const isLast = meta!.isTensor && meta!.shape[3] === 3 && meta!.shape[1] !== 3;
  const area = side * side;
  const rows: number[] = [];
  for (let at = 0; at < pixels.length; at += 3 * area) {
    const image = pixels.slice(at, at + 3 * area).map((value) => (value / 255 - 0.5) / 0.5);
    const fed = isLast ? image.map((_, index) => image[area * (index % 3) + Math.floor(index / 3)]!) : image;
    const dims = isLast ? [1, side, side, 3] : [1, 3, side, side];
    const results = await session.run({ [session.inputNames[0]!]: new Tensor('float32', fed, dims) });
    rows.push(...(results[output ?? session.outputNames[0]!]!.data as Float32Array));
  }
  await session.release();
  return Float32Array.from(rows);
}
