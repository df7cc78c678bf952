/** Computations by operators that the graph layer writes as others, with what ONNX itself calls them. */
import type { Attribute } from '../../core/graph/graph.ts';
import type { Tensor } from '../../core/shared/tensor.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { type Feeds, randomTensor, spacedTensor, uniformTensor } from './finite-differences.ts';

export interface CompositeCase {
  readonly op: string;
  readonly title: string;
  readonly feeds: Feeds;
  /** Feeds by name, constants by value, '' for an absent input. */
  readonly inputs: readonly (string | Tensor)[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  /** Inputs of the operator as ONNX Runtime has it, where its form at opset 20 is another. */
  readonly nativeInputs?: readonly (string | Tensor)[];
}

type Settings = Partial<Pick<CompositeCase, 'inputs' | 'attributes' | 'nativeInputs'>>;

function compositeCase(op: string, title: string, feeds: Feeds, settings: Settings = {}): CompositeCase {
  return { op, title, feeds, inputs: Object.keys(feeds), attributes: {}, ...settings };
}

const int64 = (values: readonly number[]): Tensor => ({
  dtype: 'int64',
  dims: [values.length],
  data: BigInt64Array.from(values, BigInt),
});
const floats = (values: readonly number[]) => floatTensor([values.length], Float32Array.from(values));
const float = (value: number) => ({ float: value });

const x34 = { x: spacedTensor([3, 4], 'composite') };
const image = { x: randomTensor([2, 4, 3, 2], 'image') };
const wide = { x: spacedTensor([1, 1, 4, 5], 'pad') };

const activations = [
  compositeCase('HardSwish', 'both flat ends', { x: spacedTensor([9, 9], 'swish') }),
  compositeCase('Mish', 'of random values', { x: randomTensor([4, 5], 'mish', 2) }),
  compositeCase('Selu', 'default', x34),
  compositeCase('Selu', 'other alpha and gamma', x34, {
    attributes: { alpha: float(1.2), gamma: float(0.7) },
  }),
  compositeCase('Softsign', 'beside the kink', x34),
  compositeCase('Dropout', 'in inference', x34, { inputs: ['x', floatTensor([], Float32Array.of(0.3))] }),
];

const arithmetic = [
  compositeCase('Sum', 'three operands, broadcasting', {
    a: randomTensor([2, 3], 'sum a'),
    b: randomTensor([3], 'sum b'),
    c: randomTensor([2, 1], 'sum c'),
  }),
  compositeCase('Sum', 'one operand', x34),
  compositeCase('Mean', 'three operands, broadcasting', {
    a: randomTensor([2, 3], 'mean a'),
    b: randomTensor([3], 'mean b'),
    c: randomTensor([2, 1], 'mean c'),
  }),
  compositeCase('Max', 'one operand', x34),
  compositeCase('Min', 'four operands', {
    a: floatTensor([2, 3], Float32Array.of(0.3, 0.3, -0.3, -0.2, 0.4, 0.5)),
    b: floats([-0.1, 0, 0.1]),
    c: floats([-0.03, 0.03, 0.06]),
    d: floats([-0.06, -0.07, 0.2]),
  }),
];

const reductions = ['ReduceL1', 'ReduceSumSquare', 'ReduceLogSum'].flatMap((op) => {
  const feeds = { x: uniformTensor([2, 3, 4], op, 0.3, 2) };
  return [
    compositeCase(op, 'two axes dropped', feeds, {
      inputs: ['x', int64([0, -1])],
      attributes: { keepdims: 0 },
    }),
    compositeCase(op, 'all axes', feeds),
    compositeCase(op, 'one axis kept', feeds, { inputs: ['x', int64([1])] }),
  ];
});

const bools = (values: readonly boolean[], dims = [values.length]): Tensor => ({
  dtype: 'bool',
  dims,
  data: Uint8Array.from(values, Number),
});
const conditions = {
  a: bools([true, true, false, false], [2, 2]),
  b: bools([true, false, true, false], [2, 2]),
};
const logic = [
  ...['And', 'Or', 'Xor'].flatMap((op) => [
    compositeCase(op, 'of all pairs', {}, { inputs: [conditions.a, conditions.b] }),
    compositeCase(op, 'broadcasting', {}, { inputs: [conditions.a, bools([true, false])] }),
  ]),
  compositeCase('Not', 'of both', {}, { inputs: [conditions.a] }),
  ...['GreaterOrEqual', 'LessOrEqual'].map((op) =>
    compositeCase(
      op,
      'less, equal, greater and not a number',
      {},
      {
        inputs: [floats([-1, 0.5, 2, Number.NaN, Infinity]), floats([0.5, 0.5, 0.5, 0.5, Infinity])],
      },
    ),
  ),
];

const layouts = [
  ...['DCR', 'CRD'].map((mode) =>
    compositeCase(
      'DepthToSpace',
      mode,
      { x: randomTensor([2, 8, 2, 3], mode) },
      { attributes: { blocksize: 2, mode } },
    ),
  ),
  compositeCase(
    'SpaceToDepth',
    'blocks of 2',
    { x: randomTensor([2, 3, 4, 6], 'std') },
    { attributes: { blocksize: 2 } },
  ),
  compositeCase(
    'Tile',
    'two of three axes',
    { x: randomTensor([2, 1, 3], 'tile') },
    { inputs: ['x', int64([2, 1, 3])] },
  ),
  compositeCase('Tile', 'once', x34, { inputs: ['x', int64([1, 1])] }),
  ...['reflect', 'edge', 'wrap'].flatMap((mode) => [
    compositeCase('Pad', `${mode}, all sides`, wide, {
      inputs: ['x', int64([0, 0, 2, 1, 0, 0, 3, 4])],
      attributes: { mode },
    }),
    compositeCase('Pad', `${mode}, listed axes`, wide, {
      inputs: ['x', int64([1, 0, 0, 2]), '', int64([-1, 2])],
      attributes: { mode },
    }),
  ]),
  compositeCase('Pad', 'constant, listed axes, cropping', wide, {
    inputs: ['x', int64([1, -2, 0, 2]), floatTensor([], Float32Array.of(0.7)), int64([-1, 2])],
    attributes: { mode: 'constant' },
  }),
  compositeCase('Split', 'without sizes', { x: randomTensor([5, 2], 'split') }, { attributes: { axis: 0 } }),
];

const scales = [0.7, -1.2];
const shifts = [0.4, 0.9];
const perChannel = (values: number[]) => values.flatMap((value) => [value, value]);

const networks = [
  ...[1, 3, 5].map((size) =>
    compositeCase('LRN', `over ${size} of 4 channels`, image, {
      attributes: { size, alpha: float(0.3), beta: float(0.6), bias: float(0.8) },
    }),
  ),
  compositeCase('GlobalMaxPool', 'of images', { x: spacedTensor([2, 3, 3, 2], 'gmp') }),
  compositeCase('GroupNormalization', 'two groups', image, {
    inputs: ['x', floats(perChannel(scales)), floats(perChannel(shifts))],
    // Opset 18 to 20 have one scale and bias per group.
    nativeInputs: ['x', floats(scales), floats(shifts)],
    attributes: { num_groups: 2, epsilon: float(1e-3) },
  }),
  compositeCase('MatMul', 'vector by vector', { a: randomTensor([4], 'va'), b: randomTensor([4], 'vb') }),
  compositeCase('MatMul', 'vector by batch', {
    a: randomTensor([2], 'va'),
    b: randomTensor([3, 2, 2], 'vb'),
  }),
  compositeCase('MatMul', 'batch by vector', {
    a: randomTensor([3, 2, 2], 'va'),
    b: randomTensor([2], 'vb'),
  }),
];

const transformations = ['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric'];
const roundings = ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'];

const resizes = [
  ...transformations.flatMap((coordinate_transformation_mode) => [
    compositeCase('Resize', `linear, ${coordinate_transformation_mode}, to a size`, image, {
      inputs: ['x', '', '', int64([2, 4, 5, 7])],
      attributes: { mode: 'linear', coordinate_transformation_mode },
    }),
    compositeCase('Resize', `linear, ${coordinate_transformation_mode}, by factors`, wide, {
      inputs: ['x', '', floats([1, 1, 0.6, 1.7])],
      attributes: { mode: 'linear', coordinate_transformation_mode },
    }),
    ...roundings.map((nearest_mode) =>
      compositeCase('Resize', `nearest, ${coordinate_transformation_mode}, ${nearest_mode}`, wide, {
        inputs: ['x', '', floats([1, 1, 1.6, 0.7])],
        attributes: { mode: 'nearest', coordinate_transformation_mode, nearest_mode },
      }),
    ),
  ]),
  ...['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric'].flatMap(
    (coordinate_transformation_mode) => [
      compositeCase('Resize', `cubic, ${coordinate_transformation_mode}, up and down`, image, {
        inputs: ['x', '', '', int64([2, 4, 7, 1])],
        attributes: { mode: 'cubic', coordinate_transformation_mode },
      }),
      compositeCase('Resize', `cubic, ${coordinate_transformation_mode}, without what is outside`, wide, {
        inputs: ['x', '', floats([1, 1, 1.5, 0.8])],
        attributes: {
          mode: 'cubic',
          coordinate_transformation_mode,
          exclude_outside: 1,
          cubic_coeff_a: float(-0.5),
        },
      }),
    ],
  ),
  ...['linear', 'cubic'].flatMap((mode) => [
    compositeCase(
      'Resize',
      `${mode} with antialias, smaller`,
      { x: randomTensor([1, 1, 9, 11], 'antialias') },
      {
        inputs: ['x', '', '', int64([1, 1, 4, 3])],
        attributes: { mode, antialias: 1 },
      },
    ),
    compositeCase(
      'Resize',
      `${mode} with antialias, larger and smaller`,
      { x: randomTensor([1, 1, 9, 5], 'antialias') },
      {
        inputs: ['x', '', '', int64([1, 1, 4, 8])],
        attributes: { mode, antialias: 1, exclude_outside: 1 },
      },
    ),
  ]),
  compositeCase('Resize', 'nearest by 2 and 3', image, {
    inputs: ['x', '', floats([1, 1, 2, 3])],
    attributes: { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
  }),
  compositeCase(
    'Resize',
    'nearest by 9, and of one row',
    { x: randomTensor([1, 2, 1, 3], 'one row') },
    {
      inputs: ['x', '', floats([1, 1, 4, 9])],
      attributes: { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
    },
  ),
  compositeCase('Resize', 'listed axes', image, {
    inputs: ['x', '', '', int64([4, 6])],
    attributes: { mode: 'linear', axes: [2, 3] },
  }),
  compositeCase('Resize', 'to the same size', image, { inputs: ['x', '', floats([1, 1, 1, 1])] }),
];

export const compositeCases: readonly CompositeCase[] = [
  ...activations,
  ...arithmetic,
  ...reductions,
  ...logic,
  ...layouts,
  ...networks,
  ...resizes,
];
