/** One or more small computations for every gradient rule. */
import type { GraphBuilder } from '../../core/graph/graph-builder.ts';
import {
  type Computation,
  type Feeds,
  randomTensor,
  spacedTensor,
  uniformTensor,
} from './finite-differences.ts';

export interface RuleCase extends Computation {
  readonly op: string;
  readonly title: string;
}

type Build = (builder: GraphBuilder) => string;

function ruleCase(op: string, title: string, feeds: Feeds, build: Build, wrt?: readonly string[]): RuleCase {
  return { op, title, feeds, build, ...(wrt === undefined ? {} : { wrt }) };
}

const x23 = { x: randomTensor([2, 3], 'x') };
const positive = { x: uniformTensor([2, 3], 'positive', 0.5, 2) };

/** Same shape, broadcasting on the right, on the left, of both, and of a scalar. */
const broadcasts: readonly (readonly [readonly number[], readonly number[]])[] = [
  [
    [2, 3],
    [2, 3],
  ],
  [
    [2, 3, 2],
    [3, 1],
  ],
  [[4], [2, 1, 4]],
  [
    [2, 1, 3],
    [4, 1],
  ],
  [[], [2, 2]],
];

function binaryCases(op: 'Add' | 'Sub' | 'Mul' | 'Div' | 'Pow'): RuleCase[] {
  return broadcasts.map(([a, b]) => {
    const feeds = { a: uniformTensor(a, `${op} a`, 0.6, 2), b: uniformTensor(b, `${op} b`, 0.6, 2) };
    return ruleCase(op, `[${a}] and [${b}]`, feeds, (g) => g.append1(op, ['a', 'b']));
  });
}

const elementwise: RuleCase[] = [
  ...binaryCases('Add'),
  ...binaryCases('Sub'),
  ...binaryCases('Mul'),
  ...binaryCases('Div'),
  ...binaryCases('Pow'),
  ruleCase('Mul', 'a value with itself', x23, (g) => g.mul('x', 'x')),
  ruleCase('Pow', 'square of negative values', x23, (g) => g.pow('x', g.scalar(2))),
  ruleCase('Neg', 'of random values', x23, (g) => g.neg('x')),
  ruleCase('Sqrt', 'of positive values', positive, (g) => g.sqrt('x')),
  ruleCase('Exp', 'of random values', x23, (g) => g.exp('x')),
  ruleCase('Log', 'of positive values', positive, (g) => g.log('x')),
  ruleCase('Erf', 'of random values', x23, (g) => g.erf('x')),
  ruleCase('Tanh', 'of random values', x23, (g) => g.tanh('x')),
  ruleCase('Sigmoid', 'of random values', x23, (g) => g.sigmoid('x')),
  ruleCase('Relu', 'beside the kink', { x: spacedTensor([4, 5], 'relu') }, (g) => g.relu('x')),
  ruleCase('Gelu', 'of random values', { x: randomTensor([4, 5], 'gelu', 2) }, (g) => g.gelu('x')),
  ruleCase('Identity', 'alone', x23, (g) => g.identity('x')),
  ruleCase('Cast', 'to the same type', x23, (g) => g.cast('x', 'float32')),
  ruleCase(
    'Where',
    'broadcasting, condition computed from a fixed input',
    { c: spacedTensor([2, 3], 'where'), a: randomTensor([3], 'a'), b: randomTensor([2, 1], 'b') },
    (g) => g.where(g.greater('c', g.scalar(0)), 'a', 'b'),
    ['a', 'b'],
  ),
];

const axesCases: readonly (readonly [string, readonly number[] | undefined, boolean])[] = [
  ['last axis kept', [-1], true],
  ['two axes dropped', [0, 2], false],
  ['all axes', undefined, false],
];

const reductions: RuleCase[] = [
  ...axesCases.flatMap(([title, axes, keep]) => [
    ruleCase('ReduceSum', title, { x: randomTensor([2, 3, 4], 's') }, (g) => g.reduceSum('x', axes, keep)),
    ruleCase('ReduceMean', title, { x: randomTensor([2, 3, 4], 'm') }, (g) => g.reduceMean('x', axes, keep)),
    ruleCase('ReduceMax', title, { x: spacedTensor([2, 3, 4], 'x') }, (g) => g.reduceMax('x', axes, keep)),
  ]),
  ...[-1, 1, 0].flatMap((axis) => [
    ruleCase('Softmax', `axis ${axis}`, { x: randomTensor([3, 4, 2], 'so') }, (g) => g.softmax('x', axis)),
    ruleCase('LogSoftmax', `axis ${axis}`, { x: randomTensor([3, 4, 2], 'ls') }, (g) =>
      g.logSoftmax('x', axis),
    ),
  ]),
  ruleCase(
    'LayerNormalization',
    'last axis',
    { x: randomTensor([3, 6], 'ln'), scale: randomTensor([6], 'scale'), bias: randomTensor([6], 'bias') },
    (g) => g.layerNormalization('x', 'scale', 'bias', { epsilon: 1e-3 }),
  ),
  ruleCase(
    'LayerNormalization',
    'two axes, no bias',
    { x: randomTensor([2, 3, 4], 'ln2', 2), scale: randomTensor([3, 4], 'scale2') },
    (g) => g.layerNormalization('x', 'scale', undefined, { axis: 1 }),
  ),
];

const x234 = { x: randomTensor([2, 3, 4], 'x234') };
const indices = (g: GraphBuilder, values: readonly number[], dims: readonly number[]) =>
  g.constant({ dtype: 'int64', dims, data: BigInt64Array.from(values, BigInt) });

const shapes: RuleCase[] = [
  ruleCase('Reshape', 'with -1 and 0', x234, (g) => g.reshape('x', [0, -1])),
  ruleCase('Flatten', 'at axis 2', x234, (g) => g.flatten('x', 2)),
  ruleCase('Squeeze', 'two axes', { x: randomTensor([1, 3, 1], 'sq') }, (g) => g.squeeze('x', [0, -1])),
  ruleCase('Unsqueeze', 'two axes', { x: randomTensor([3, 2], 'us') }, (g) => g.unsqueeze('x', [0, -1])),
  ruleCase('Transpose', 'cyclic', x234, (g) => g.transpose('x', [1, 2, 0])),
  ruleCase('Transpose', 'without permutation', x234, (g) => g.transpose('x')),
  ruleCase('Slice', 'from the middle', x234, (g) => g.slice('x', [1, -3], [3, 100], [1, 2])),
  ruleCase('Slice', 'every second and third', { x: randomTensor([5, 8], 'st') }, (g) =>
    g.slice('x', [1, 0], [5, 8], [0, 1], [2, 3]),
  ),
  ruleCase('Slice', 'backwards by two', { x: randomTensor([3, 6], 'back') }, (g) =>
    g.slice('x', [-1, 4], [-4, 0], [0, 1], [-1, -2]),
  ),
  ruleCase(
    'Concat',
    'three values, one of them twice',
    { x: randomTensor([2, 3], 'c1'), y: randomTensor([2, 2], 'c2') },
    (g) => g.concat(['x', 'y', 'x'], -1),
  ),
  ruleCase('Split', 'all pieces used', { x: randomTensor([2, 5], 'sp') }, (g) => {
    const [first, second] = g.split('x', [2, 3], -1);
    return g.concat([g.mul(second!, second!), first!], 1);
  }),
  ruleCase('Split', 'only the second piece used', { x: randomTensor([5, 2], 'sp2') }, (g) => {
    const [, second] = g.split('x', [1, 3, 1], 0);
    return g.mul(second!, second!);
  }),
  ruleCase('Pad', 'all sides', x234, (g) => g.pad('x', [0, 1, 2, 1, 0, 1], 3)),
  ruleCase('Pad', 'cropping one side', x234, (g) => g.pad('x', [0, -1, 2, 0, 0, -1])),
  ruleCase('Gather', 'a row twice and from the end', { x: randomTensor([4, 3], 'ga') }, (g) =>
    g.gather('x', indices(g, [0, 2, 2, -1], [2, 2])),
  ),
  ruleCase('Gather', 'a scalar index of the middle axis', x234, (g) => g.gather('x', indices(g, [1], []), 1)),
  ruleCase('Expand', 'new and stretched axes', { x: randomTensor([3, 1], 'ex') }, (g) =>
    g.expand('x', [2, 3, 4]),
  ),
];

const gemmCases: RuleCase[] = [false, true].flatMap((transA) =>
  [false, true].map((transB) =>
    ruleCase(
      'Gemm',
      `transA ${transA}, transB ${transB}, alpha, beta and a row added`,
      {
        a: randomTensor(transA ? [3, 2] : [2, 3], 'gemm a'),
        b: randomTensor(transB ? [4, 3] : [3, 4], 'gemm b'),
        c: randomTensor([4], 'gemm c'),
      },
      (g) => g.gemm('a', 'b', 'c', { alpha: 0.7, beta: 1.3, transA, transB }),
    ),
  ),
);

function matMulCase(a: readonly number[], b: readonly number[]): RuleCase {
  const feeds = { a: randomTensor(a, 'mm a'), b: randomTensor(b, 'mm b') };
  return ruleCase('MatMul', `[${a}] by [${b}]`, feeds, (g) => g.matMul('a', 'b'));
}

const linear: RuleCase[] = [
  ...gemmCases,
  ruleCase('Gemm', 'without a summand', { a: randomTensor([2, 3], 'a'), b: randomTensor([3, 2], 'b') }, (g) =>
    g.gemm('a', 'b'),
  ),
  matMulCase([2, 3], [3, 4]),
  matMulCase([2, 2, 3], [3, 4]),
  matMulCase([2, 3, 2], [2, 2, 3]),
  matMulCase([2, 3], [2, 3, 2]),
  matMulCase([2, 1, 2, 3], [3, 3, 2]),
];

interface ConvCase {
  title: string;
  x: readonly number[];
  w: readonly number[];
  strides?: readonly number[];
  pads?: readonly number[];
  dilations?: readonly number[];
  constantWeight?: boolean;
}

const convSettings: readonly ConvCase[] = [
  { title: '3×3, same size', x: [2, 2, 5, 4], w: [3, 2, 3, 3], pads: [1, 1, 1, 1] },
  { title: '3×3, frozen weight', x: [2, 2, 5, 4], w: [3, 2, 3, 3], pads: [1, 1, 1, 1], constantWeight: true },
  { title: '1×1', x: [2, 3, 3, 3], w: [2, 3, 1, 1] },
  { title: 'stride 2, nothing left over', x: [1, 2, 5, 5], w: [2, 2, 3, 3], strides: [2, 2] },
  { title: 'stride 2, a row and a column left over', x: [2, 2, 6, 6], w: [2, 2, 3, 3], strides: [2, 2] },
  { title: '1×1, stride 2, leftover', x: [1, 2, 4, 4], w: [2, 2, 1, 1], strides: [2, 2] },
  { title: 'uneven pads and strides', x: [1, 2, 6, 7], w: [2, 2, 3, 2], strides: [3, 2], pads: [1, 0, 2, 1] },
  { title: 'fewer channels out than in', x: [2, 3, 4, 5], w: [2, 3, 3, 2], pads: [1, 0, 1, 1] },
  { title: 'fewer channels out than in, dilated', x: [1, 3, 6, 6], w: [1, 3, 2, 3], dilations: [2, 1] },
  { title: 'fewer channels out than in, stride 2', x: [2, 3, 6, 6], w: [2, 3, 3, 3], strides: [2, 2] },
  {
    title: 'fewer channels out than in, large picture',
    x: [2, 2, 18, 17],
    w: [1, 2, 3, 3],
    pads: [1, 1, 1, 1],
  },
  { title: 'fewer channels in than out, large picture', x: [2, 1, 19, 18], w: [2, 1, 2, 2] },
  { title: 'pads wider than the kernel', x: [1, 1, 3, 3], w: [2, 1, 2, 2], pads: [2, 2, 2, 2] },
  { title: 'dilated', x: [1, 2, 6, 6], w: [2, 2, 2, 3], dilations: [2, 2], pads: [1, 1, 1, 1] },
  {
    title: 'dilated, stride 2, leftover',
    x: [1, 1, 8, 8],
    w: [2, 1, 2, 2],
    dilations: [3, 2],
    strides: [2, 2],
  },
];

const convolutions: RuleCase[] = convSettings.map(({ title, x, w, constantWeight, ...options }) => {
  const weight = randomTensor(w, `w ${title}`);
  const all = { x: randomTensor(x, `x ${title}`), bias: randomTensor([w[0]!], 'bias') };
  const feeds: Feeds = constantWeight ? all : { ...all, w: weight };
  return ruleCase('Conv', title, feeds, (g) => {
    const kernel = constantWeight ? g.constant(weight) : 'w';
    return g.conv('x', kernel, { bias: 'bias', ...options });
  });
});

const groupedInput = ruleCase(
  'Conv',
  'input of a frozen grouped convolution',
  { x: randomTensor([1, 4, 5, 5], 'grp') },
  (g) => g.conv('x', g.constant(randomTensor([4, 2, 3, 3], 'grp w')), { group: 2, pads: [1, 1, 1, 1] }),
);

const transposedConvolutions: RuleCase[] = [
  { title: 'plain', x: [2, 2, 3, 3], w: [2, 3, 3, 3] },
  {
    title: 'stride 2, pads, extra row',
    x: [1, 2, 3, 4],
    w: [2, 2, 3, 3],
    strides: [2, 2],
    pads: [1, 1, 1, 0],
    outputPadding: [1, 0],
  },
  { title: 'dilated', x: [1, 2, 3, 3], w: [2, 2, 2, 2], dilations: [2, 1] },
].map(({ title, x, w, ...options }) =>
  ruleCase(
    'ConvTranspose',
    title,
    {
      x: randomTensor(x, `tx ${title}`),
      w: randomTensor(w, `tw ${title}`),
      bias: randomTensor([w[1]!], 'tb'),
    },
    (g) => g.convTranspose('x', 'w', { bias: 'bias', ...options }),
  ),
);

const pools: RuleCase[] = (
  [
    ['3×3 by 2, leftover', [1, 2, 6, 8], [3, 3], { strides: [2, 2] }],
    ['3×3 by 1, padded, overlapping', [2, 1, 4, 4], [3, 3], { pads: [1, 1, 1, 1] }],
    ['2×3 by 2 and 3, uneven pads', [1, 2, 5, 6], [2, 3], { strides: [2, 3], pads: [0, 1, 1, 0] }],
  ] as const
).flatMap(([title, dims, kernel, options]) => [
  ruleCase('MaxPool', title, { x: spacedTensor(dims, `max ${title}`) }, (g) =>
    g.maxPool('x', kernel, options),
  ),
  ruleCase('AveragePool', title, { x: randomTensor(dims, `avg ${title}`) }, (g) =>
    g.averagePool('x', kernel, options),
  ),
  ruleCase('AveragePool', `${title}, padding counted`, { x: randomTensor(dims, `avp ${title}`) }, (g) =>
    g.averagePool('x', kernel, { ...options, countIncludePad: true }),
  ),
]);

export const ruleCases: readonly RuleCase[] = [
  ...elementwise,
  ...reductions,
  ...shapes,
  ...linear,
  ...convolutions,
  groupedInput,
  ...transposedConvolutions,
  ...pools,
  ruleCase('GlobalAveragePool', 'of images', { x: randomTensor([2, 3, 3, 2], 'gap') }, (g) =>
    g.globalAveragePool('x'),
  ),
];
