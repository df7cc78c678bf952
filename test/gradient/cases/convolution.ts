/** Cases of convolutions. */
import { type Feeds, randomTensor } from '../finite-differences.ts';
import { type RuleCase, ruleCase } from './rule-case.ts';

interface ConvCase {
  title: string;
  group?: number;
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
    title: 'fewer channels out than in, large image',
    x: [2, 2, 18, 17],
    w: [1, 2, 3, 3],
    pads: [1, 1, 1, 1],
  },
  { title: 'fewer channels in than out, large image', x: [2, 1, 19, 18], w: [2, 1, 2, 2] },
  {
    title: 'dilated, uneven pads, large image',
    x: [1, 2, 12, 13],
    w: [3, 2, 3, 2],
    dilations: [2, 3],
    pads: [2, 0, 1, 3],
  },
  { title: 'stride over the kernel, leftover', x: [1, 2, 8, 9], w: [2, 2, 2, 2], strides: [3, 4] },
  {
    title: 'dilated, uneven pads',
    x: [1, 2, 6, 5],
    w: [3, 2, 3, 2],
    dilations: [2, 3],
    pads: [2, 0, 1, 3],
  },
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

function convCase({ title, x, w, constantWeight, ...options }: ConvCase): RuleCase {
  const weight = randomTensor(w, `w ${title}`);
  const all = { x: randomTensor(x, `x ${title}`), bias: randomTensor([w[0]!], 'bias') };
  const feeds: Feeds = constantWeight ? all : { ...all, w: weight };
  return ruleCase('Conv', title, feeds, (g) => {
    const kernel = constantWeight ? g.constant(weight) : 'w';
    return g.conv('x', kernel, { bias: 'bias', ...options });
  });
}

/** Groups: of several channels, one in or one out per group, stride, dilation and uneven pads with leftovers. */
const groupedSettings: readonly (ConvCase & { group: number })[] = [
  { title: 'two groups, 3×3', x: [2, 4, 5, 4], w: [6, 2, 3, 3], group: 2, pads: [1, 1, 1, 1] },
  { title: 'two groups, 1×1', x: [2, 4, 3, 3], w: [4, 2, 1, 1], group: 2 },
  { title: 'two groups, stride 2, leftover', x: [1, 4, 6, 6], w: [4, 2, 3, 3], group: 2, strides: [2, 2] },
  {
    title: 'two groups, dilated, uneven pads',
    x: [1, 4, 5, 6],
    w: [2, 2, 2, 3],
    group: 2,
    dilations: [2, 1],
    pads: [0, 2, 1, 1],
  },
  { title: 'two groups, large image', x: [1, 4, 11, 10], w: [2, 2, 3, 3], group: 2, pads: [1, 1, 1, 1] },
  { title: 'depthwise, large image', x: [1, 2, 11, 10], w: [4, 1, 2, 3], group: 2, pads: [1, 1, 0, 1] },
  { title: 'depthwise', x: [2, 3, 5, 4], w: [3, 1, 3, 3], group: 3, pads: [1, 1, 1, 1] },
  { title: 'depthwise, multiplier 2', x: [2, 2, 4, 5], w: [4, 1, 3, 2], group: 2, pads: [1, 0, 1, 1] },
  {
    title: 'depthwise, stride 2, leftover',
    x: [2, 3, 6, 8],
    w: [3, 1, 3, 3],
    group: 3,
    strides: [2, 2],
    pads: [1, 0, 0, 0],
  },
  {
    title: 'depthwise, stride over the kernel',
    x: [1, 2, 7, 8],
    w: [2, 1, 2, 2],
    group: 2,
    strides: [3, 4],
  },
  {
    title: 'depthwise, dilated, stride 2, uneven pads',
    x: [1, 2, 7, 8],
    w: [4, 1, 2, 3],
    group: 2,
    strides: [2, 1],
    dilations: [2, 3],
    pads: [1, 2, 0, 1],
  },
  { title: 'depthwise, the whole image at once', x: [2, 3, 3, 2], w: [3, 1, 3, 2], group: 3 },
  { title: 'one channel out of each group', x: [1, 6, 3, 3], w: [2, 3, 2, 2], group: 2 },
];

const groupedConvolutions = groupedSettings.flatMap((setting) => [
  convCase(setting),
  convCase({ ...setting, title: `${setting.title}, frozen weight`, constantWeight: true }),
]);

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
  { title: 'two groups', x: [2, 4, 3, 2], w: [4, 3, 3, 3], group: 2, pads: [1, 1, 1, 1] },
  {
    title: 'two groups, stride 2, extra row, dilated',
    x: [1, 4, 3, 3],
    w: [4, 1, 2, 2],
    group: 2,
    strides: [2, 3],
    dilations: [1, 2],
    outputPadding: [1, 2],
  },
  {
    title: 'depthwise, stride 2',
    x: [2, 3, 3, 3],
    w: [3, 1, 3, 3],
    group: 3,
    strides: [2, 2],
    pads: [1, 1, 0, 0],
  },
  { title: 'depthwise, two out of one', x: [2, 2, 3, 3], w: [2, 2, 2, 3], group: 2 },
].map(({ title, x, w, group, ...options }: ConvCase & { outputPadding?: readonly number[] }) =>
  ruleCase(
    'ConvTranspose',
    title,
    {
      x: randomTensor(x, `tx ${title}`),
      w: randomTensor(w, `tw ${title}`),
      bias: randomTensor([w[1]! * (group ?? 1)], 'tb'),
    },
    (g) => g.convTranspose('x', 'w', { bias: 'bias', group: group ?? 1, ...options }),
  ),
);

export const convolutionCases: readonly RuleCase[] = [
  ...convSettings.map(convCase),
  ...groupedConvolutions,
  ...transposedConvolutions,
];
