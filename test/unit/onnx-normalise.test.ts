/** Forms of operators from opset 11 to 22: our graph gives what ONNX Runtime makes of the file. */
import { describe, expect, it } from 'vitest';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
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

interface Form extends Omit<ModelSketch, 'nodes'> {
  nodes: readonly NodeSketch[];
  /** Channels of `x`, the last value, which is averaged over its places; or, with `width`, a matrix. */
  width: number;
  isMatrix?: boolean;
}

const conv3 = floats('w', [4, 3, 3, 3], waves(108));
const conv4 = floats('w', [4, 3, 4, 4], waves(192));
const same = (mode: string, attributes = {}) => ({ auto_pad: mode, ...attributes });
const channels = (name: string, shift: number) =>
  floats(
    name,
    [4],
    waves(4).map((value) => value * 0.3 + shift),
  );
const convX: NodeSketch = { op: 'Conv', in: ['input', 'w'], out: ['c'], attributes: { pads: [1, 1, 1, 1] } };

const forms: Record<string, Form> = {
  'Conv SAME_UPPER with stride 2': {
    nodes: [
      { op: 'Conv', in: ['input', 'w'], out: ['x'], attributes: same('SAME_UPPER', { strides: [2, 2] }) },
    ],
    initializers: [conv4],
    width: 4,
  },
  'Conv SAME_LOWER with an even kernel': {
    nodes: [{ op: 'Conv', in: ['input', 'w'], out: ['x'], attributes: same('SAME_LOWER') }],
    initializers: [conv4],
    width: 4,
  },
  'Conv VALID, dilated': {
    nodes: [{ op: 'Conv', in: ['input', 'w'], out: ['x'], attributes: same('VALID', { dilations: [2, 2] }) }],
    initializers: [conv3],
    width: 4,
  },
  'ConvTranspose with output_shape': {
    nodes: [
      {
        op: 'ConvTranspose',
        in: ['input', 't'],
        out: ['x'],
        attributes: { strides: [2, 2], output_shape: [15, 15] },
      },
    ],
    initializers: [floats('t', [3, 4, 3, 3], waves(108))],
    width: 4,
  },
  'MaxPool with ceil_mode': {
    nodes: [
      convX,
      {
        op: 'MaxPool',
        in: ['c'],
        out: ['x'],
        attributes: { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 },
      },
    ],
    initializers: [conv3],
    width: 4,
  },
  'AveragePool with ceil_mode': {
    nodes: [
      convX,
      {
        op: 'AveragePool',
        in: ['c'],
        out: ['x'],
        attributes: { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 },
      },
    ],
    initializers: [conv3],
    width: 4,
  },
  'AveragePool SAME_LOWER counting its pads': {
    nodes: [
      convX,
      {
        op: 'AveragePool',
        in: ['c'],
        out: ['x'],
        attributes: same('SAME_LOWER', { kernel_shape: [2, 2], strides: [1, 1], count_include_pad: 1 }),
      },
    ],
    initializers: [conv3],
    width: 4,
  },
  'Softmax of opset 11 over all axes from the first': {
    opset: 11,
    nodes: [convX, { op: 'Softmax', in: ['c'], out: ['x'] }],
    initializers: [conv3],
    width: 4,
  },
  'LogSoftmax of opset 13 over channels': {
    opset: 13,
    nodes: [convX, { op: 'LogSoftmax', in: ['c'], out: ['x'], attributes: { axis: 1 } }],
    initializers: [conv3],
    width: 4,
  },
  'BatchNormalization of opset 11': {
    opset: 11,
    nodes: [
      convX,
      {
        op: 'BatchNormalization',
        in: ['c', 's', 'b', 'm', 'v'],
        out: ['x'],
        attributes: { epsilon: { float: 0.01 }, momentum: { float: 0.8 } },
      },
    ],
    initializers: [conv3, channels('s', 1), channels('b', 0), channels('m', 0.2), channels('v', 1.5)],
    width: 4,
  },
  'GroupNormalization of opset 18, a scale per group': {
    opset: 18,
    nodes: [
      convX,
      { op: 'GroupNormalization', in: ['c', 's', 'b'], out: ['x'], attributes: { num_groups: 2 } },
    ],
    initializers: [conv3, floats('s', [2], [0.5, 2]), floats('b', [2], [0.1, -0.3])],
    width: 4,
  },
  'GroupNormalization of opset 21, a scale per channel': {
    opset: 21,
    nodes: [
      convX,
      { op: 'GroupNormalization', in: ['c', 's', 'b'], out: ['x'], attributes: { num_groups: 2 } },
    ],
    initializers: [conv3, channels('s', 1), channels('b', 0)],
    width: 4,
  },
  'axes as attributes, opset 11': {
    opset: 11,
    nodes: [
      convX,
      { op: 'ReduceMean', in: ['c'], out: ['r'], attributes: { axes: [3], keepdims: 0 } },
      { op: 'Unsqueeze', in: ['r'], out: ['u'], attributes: { axes: [-1] } },
      { op: 'ReduceSum', in: ['u'], out: ['t'], attributes: { axes: [2], keepdims: 1 } },
      { op: 'Squeeze', in: ['t'], out: ['q'], attributes: { axes: [2] } },
      { op: 'Split', in: ['q'], out: ['a', 'b'], attributes: { axis: 1, split: [1, 3] } },
      { op: 'Concat', in: ['b', 'a'], out: ['x'], attributes: { axis: 1 } },
      { op: 'Dropout', in: ['x'], out: ['y'] },
      { op: 'Squeeze', in: ['y'], out: ['z'] },
      { op: 'Identity', in: ['z'], out: ['features'] },
    ],
    initializers: [conv3],
    width: 4,
    isMatrix: true,
  },
  'sizes computed from the shape': {
    nodes: [
      convX,
      { op: 'Shape', in: ['c'], out: ['shape'] },
      { op: 'Gather', in: ['shape', 'zero'], out: ['n'], attributes: { axis: 0 } },
      { op: 'Unsqueeze', in: ['n', 'axis'], out: ['n1'] },
      { op: 'Concat', in: ['n1', 'rest'], out: ['target'], attributes: { axis: 0 } },
      { op: 'Reshape', in: ['c', 'target'], out: ['r'] },
      { op: 'Slice', in: ['r', 'starts', 'ends', 'last', 'steps'], out: ['s'] },
      { op: 'ReduceMean', in: ['s'], out: ['features'], attributes: { axes: [2], keepdims: 0 } },
    ],
    initializers: [
      conv3,
      int64s('zero', [], [0]),
      int64s('axis', [1], [0]),
      int64s('rest', [2], [4, -1]),
      int64s('starts', [1], [-1]),
      int64s('ends', [1], [-2147483648]),
      int64s('last', [1], [2]),
      int64s('steps', [1], [-3]),
    ],
    width: 4,
    isMatrix: true,
  },
  'an image that the file wants channels last': {
    inputDims: ['batch', 8, 8, 3],
    nodes: [
      { op: 'Transpose', in: ['input'], out: ['n'], attributes: { perm: [0, 3, 1, 2] } },
      { op: 'Conv', in: ['n', 'w'], out: ['x'] },
    ],
    initializers: [conv3],
    width: 4,
  },
  'a quantised weight, one scale per output': {
    nodes: [
      { op: 'DequantizeLinear', in: ['q', 'scale', 'zero'], out: ['dq'], attributes: { axis: 0 } },
      { op: 'Conv', in: ['input', 'dq'], out: ['x'] },
    ],
    initializers: [
      {
        name: 'q',
        dims: [4, 3, 3, 3],
        dataType: 3,
        rawData: new Uint8Array(Int8Array.from(waves(108), (value) => 100 * value).buffer),
      },
      floats('scale', [4], [0.01, 0.02, 0.03, 0.015]),
      { name: 'zero', dims: [4], dataType: 3, int32Data: [0, 1, -2, 3] },
    ],
    width: 4,
  },
  'a transposed weight, a square root as Pow of integers, Clip with one bound': {
    nodes: [
      convX,
      { op: 'GlobalAveragePool', in: ['c'], out: ['g'] },
      { op: 'Flatten', in: ['g'], out: ['f'] },
      { op: 'Transpose', in: ['m'], out: ['mt'], attributes: { perm: [1, 0] } },
      { op: 'MatMul', in: ['f', 'mt'], out: ['y'] },
      { op: 'Pow', in: ['y', 'two'], out: ['p'] },
      { op: 'Clip', in: ['p', '', 'high'], out: ['features'] },
    ],
    initializers: [conv3, floats('m', [5, 4], waves(20)), int64s('two', [], [2]), floats('high', [], [0.05])],
    width: 5,
    isMatrix: true,
  },
  'Gelu by tanh, opset 20': {
    opset: 20,
    nodes: [convX, { op: 'Gelu', in: ['c'], out: ['x'], attributes: { approximate: 'tanh' } }],
    initializers: [conv3],
    width: 4,
  },
  'fused operators of ONNX Runtime': {
    nodes: [
      {
        op: 'FusedConv',
        domain: 'com.microsoft',
        in: ['input', 'w', 'cb'],
        out: ['c'],
        attributes: { activation: 'Relu', pads: [1, 1, 1, 1] },
      },
      { op: 'GlobalAveragePool', in: ['c'], out: ['g'] },
      { op: 'Flatten', in: ['g'], out: ['f'] },
      { op: 'BiasGelu', domain: 'com.microsoft', in: ['f', 'gb'], out: ['h'] },
      {
        op: 'FusedMatMul',
        domain: 'com.microsoft',
        in: ['h', 'm'],
        out: ['features'],
        attributes: { transB: 1, alpha: { float: 0.5 } },
      },
    ],
    initializers: [conv3, channels('cb', 0), channels('gb', 0), floats('m', [5, 4], waves(20))],
    width: 5,
    isMatrix: true,
  },
  'Pad of some axes, a fill value, reflection': {
    opset: 18,
    nodes: [
      { op: 'Pad', in: ['input', 'pads', 'value', 'axes'], out: ['p'] },
      { op: 'Pad', in: ['p', 'four'], out: ['r'], attributes: { mode: 'reflect' } },
      { op: 'Conv', in: ['r', 'w'], out: ['x'] },
    ],
    initializers: [
      conv3,
      int64s('pads', [4], [1, 0, 0, 2]),
      floats('value', [], [0.5]),
      int64s('axes', [2], [2, 3]),
      int64s('four', [8], [0, 0, 1, 1, 0, 0, 1, 1]),
    ],
    width: 4,
  },
};

/** Averages a feature map, then a layer of constant weight. */
function complete({ nodes, width, isMatrix, initializers = [], ...rest }: Form) {
  const pooled: NodeSketch[] = [
    // The sum of squares tells places apart, which a mean alone would not.
    { op: 'Mul', in: ['x', 'x'], out: ['squares'] },
    { op: 'GlobalAveragePool', in: ['squares'], out: ['pooled'] },
    { op: 'Flatten', in: ['pooled'], out: ['features'] },
  ];
  const tail = linearTail('features', width);
  const all = [...nodes, ...(isMatrix === true ? [] : pooled), tail.node];
  return sketchModel({ ...rest, nodes: all, initializers: [...initializers, tail.weight] });
}

describe('operator forms', () => {
  it.each(Object.keys(forms))('%s', async (name) => {
    const file = await writeModel(complete(forms[name]!));
    const pixels = testPixels(2, 8);
    const base = await openOnnxModel(file, settings);
    const isLast = forms[name]!.inputDims?.[3] === 3;
    const fed = isLast ? channelsLast(pixels, 2, 8) : pixels;
    const wanted = await runOriginal(file, fed, isLast ? [2, 8, 8, 3] : [2, 3, 8, 8]);
    const found = await runBase(base, pixels, 2);
    expect(largestDifference(found, wanted)).toBeLessThan(1e-5 * Math.max(1, ...wanted.map(Math.abs)));
  });
});

function channelsLast(pixels: Float32Array, batch: number, side: number): Float32Array {
  const area = side * side;
  const result = new Float32Array(pixels.length);
  for (let index = 0; index < pixels.length; index++) {
    const place = index % area;
    const channel = Math.floor(index / area) % 3;
    const image = Math.floor(index / (3 * area));
    result[(image * area + place) * 3 + channel] = pixels[index]!;
  }
  expect(result.length).toBe(batch * 3 * area);
  return result;
}
