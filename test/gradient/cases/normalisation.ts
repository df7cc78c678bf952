/** Cases of what normalises along axes or per channel. */
import type { GraphBuilder } from '../../../core/graph/graph-builder.ts';
import { type Feeds, randomTensor, uniformTensor } from '../finite-differences.ts';
import { type RuleCase, ruleCase } from './rule-case.ts';

const image = randomTensor([2, 3, 2, 3], 'normalised', 2, 0.5);
const scale = randomTensor([3], 'channel scale');
const bias = randomTensor([3], 'channel bias');
const variance = uniformTensor([3], 'variance', 0.3, 2);
const mean = randomTensor([3], 'mean');

const batchNormalization = (g: GraphBuilder, scaleName: string, biasName: string) =>
  g.append1('BatchNormalization', ['x', scaleName, biasName, g.constant(mean), g.constant(variance)], {
    epsilon: { float: 1e-3 },
  });

/** Scale and bias as trained inputs, as constants, and scale alone trained. */
function channelCases(
  op: string,
  x: Feeds,
  build: (g: GraphBuilder, scale: string, bias: string) => string,
): RuleCase[] {
  return [
    ruleCase(op, 'trained scale and bias', { ...x, scale, bias }, (g) => build(g, 'scale', 'bias')),
    ruleCase(op, 'frozen scale and bias', x, (g) => build(g, g.constant(scale), g.constant(bias))),
    ruleCase(op, 'scale only', { ...x, scale }, (g) => build(g, 'scale', g.constant(bias)), ['scale']),
  ];
}

export const normalisationCases: readonly RuleCase[] = [
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
  ...channelCases('BatchNormalization', { x: image }, batchNormalization),
  ruleCase('BatchNormalization', 'rank 2', { x: randomTensor([4, 3], 'bn2'), scale, bias }, (g) =>
    batchNormalization(g, 'scale', 'bias'),
  ),
  ruleCase(
    'BatchNormalization',
    'variance that is fed',
    { x: image, v: variance },
    (g) =>
      g.append1('BatchNormalization', ['x', ...[scale, bias, mean].map((value) => g.constant(value)), 'v']),
    ['x'],
  ),
  ...channelCases('InstanceNormalization', { x: image }, (g, s, b) =>
    g.instanceNormalization('x', s, b, { epsilon: 1e-3 }),
  ),
  ruleCase('InstanceNormalization', 'rank 3', { x: randomTensor([2, 3, 5], 'in3'), scale, bias }, (g) =>
    g.instanceNormalization('x', 'scale', 'bias'),
  ),
  ...([1, 2] as const).flatMap((p) =>
    [-1, 0, 1].map((axis) =>
      ruleCase(
        'LpNormalization',
        `p ${p}, axis ${axis}`,
        { x: uniformTensor([3, 4, 2], `lp${axis}`, 0.3, 2) },
        (g) => g.append1('LpNormalization', [g.sub('x', g.scalar(0.15))], { p, axis }),
      ),
    ),
  ),
  ruleCase('LpNormalization', 'values of either sign', { x: randomTensor([3, 8], 'lp signs', 2) }, (g) =>
    g.append1('LpNormalization', ['x'], { p: 2, axis: -1 }),
  ),
];
