/**
 * Operators behind a convolution, where this engine holds images with the channels last: every operator has
 * to see the axes of the graph's order all the same. Compared with ONNX Runtime.
 */
import * as tf from '@tensorflow/tfjs';
import { describe, expect, test } from 'vitest';
import { appendGradients } from '../../core/graph/autodiff.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { elementCount } from '../../core/shared/tensor.ts';
import { disagreements, tensorFlowLegs } from './engine-parity.ts';
import { randomTensor, uniformTensor } from './finite-differences.ts';

const tolerance = 1e-4;
/** All sizes differ, so that an exchanged axis cannot go unseen. */
const dims = [2, 3, 4, 5] as const;

type Build = (g: GraphBuilder, image: string) => string;
const constant = (g: GraphBuilder, shape: readonly number[], seed = 'constant') =>
  g.constant(randomTensor(shape, seed));
const positive = (g: GraphBuilder, shape: readonly number[]) =>
  g.constant(uniformTensor(shape, 'positive', 0.5, 2));

const operators: Readonly<Record<string, Build>> = {
  'a channel vector added': (g, x) => g.add(x, constant(g, [3, 1, 1])),
  'a row added': (g, x) => g.add(x, constant(g, [5])),
  'a column added, in front': (g, x) => g.sub(constant(g, [4, 1]), x),
  'an image of the graph’s order added': (g, x) => g.mul(x, constant(g, dims)),
  'a scalar': (g, x) => g.mul(x, g.scalar(3)),
  'chosen by comparison': (g, x) =>
    g.where(g.greater(x, constant(g, [3, 1, 1])), x, constant(g, [2, 1, 1, 5])),
  'relu and tanh': (g, x) => g.tanh(g.relu(x)),
  prelu: (g, x) => g.append1('PRelu', [x, constant(g, [3, 1, 1])]),
  clipped: (g, x) => g.append1('Clip', [x, g.scalar(-0.2), g.scalar(0.3)]),
  'largest of two': (g, x) => g.max(x, constant(g, [1, 3, 1, 5])),
  cast: (g, x) => g.cast(g.greater(x, g.scalar(0)), 'float32'),
  'softmax over channels': (g, x) => g.softmax(x, 1),
  'softmax along rows': (g, x) => g.softmax(x, -1),
  'log softmax along columns': (g, x) => g.logSoftmax(x, 2),
  'norm over channels': (g, x) => g.append1('LpNormalization', [x], { axis: 1 }),
  'sum over channels, kept': (g, x) => g.reduceSum(x, [1]),
  'mean over rows, dropped': (g, x) => g.reduceMean(x, [2], false),
  'largest per channel': (g, x) => g.reduceMax(x, [0, 2, 3], false),
  'mean per image and channel, dropped': (g, x) => g.reduceMean(x, [2, 3], false),
  'sum of all': (g, x) => g.reduceSum(x, undefined, false),
  'pool of whole images': (g, x) => g.globalAveragePool(x),
  'pool, flattened': (g, x) => g.flatten(g.globalAveragePool(x)),
  flattened: (g, x) => g.flatten(x),
  reshaped: (g, x) => g.reshape(x, [2, 3, 20]),
  'transposed to tokens': (g, x) => g.transpose(g.reshape(x, [2, 3, 20]), [0, 2, 1]),
  'transposed cyclically': (g, x) => g.transpose(x, [3, 0, 1, 2]),
  'transposed to channels last': (g, x) => g.transpose(x, [0, 2, 3, 1]),
  'cut out of rows and columns': (g, x) => g.slice(x, [1, 0], [3, -1], [2, 3]),
  'every second column, backwards': (g, x) => g.slice(x, [-1], [-6], [3], [-2]),
  'channels cut': (g, x) => g.slice(x, [1], [3], [1]),
  'joined by channel with the graph’s order': (g, x) => g.concat([x, constant(g, [2, 2, 4, 5])], 1),
  'joined by row': (g, x) => g.concat([x, x], 2),
  'split by channel': (g, x) => {
    const [a, b] = g.split(x, [1, 2], 1);
    return g.mul(a!, b!);
  },
  'padded unevenly': (g, x) => g.pad(x, [0, 1, 2, 0, 1, 0, 0, 3], 0.5),
  'padded and cropped': (g, x) => g.pad(x, [0, 0, -1, 2, 0, 1, 1, -1]),
  gathered: (g, x) =>
    g.gather(x, g.constant({ dtype: 'int64', dims: [2], data: BigInt64Array.of(2n, 0n) }), 1),
  expanded: (g, x) => g.expand(g.globalAveragePool(x), [...dims]),
  unsqueezed: (g, x) => g.unsqueeze(x, [0]),
  'product along rows': (g, x) => g.matMul(x, constant(g, [5, 2])),
  'layer normalised': (g, x) =>
    g.layerNormalization(x, positive(g, [4, 5]), constant(g, [4, 5]), { axis: 2, epsilon: 1e-3 }),
  'instance normalised': (g, x) => g.instanceNormalization(x, positive(g, [3]), constant(g, [3])),
  'batch normalised': (g, x) =>
    g.append1('BatchNormalization', [
      x,
      positive(g, [3]),
      constant(g, [3]),
      constant(g, [3], 'm'),
      positive(g, [3]),
    ]),
  'another convolution': (g, x) => g.conv(x, constant(g, [2, 3, 3, 3]), { pads: [1, 1, 1, 1] }),
  'convolution per channel, uneven strides': (g, x) =>
    g.conv(x, constant(g, [6, 1, 2, 2]), { group: 3, strides: [1, 2] }),
  'convolution per channel, dilated': (g, x) =>
    g.conv(x, constant(g, [3, 1, 2, 2]), { group: 3, dilations: [2, 3], pads: [1, 1, 1, 1] }),
  'dilated and strided': (g, x) =>
    g.conv(x, constant(g, [4, 3, 2, 2]), { dilations: [2, 1], strides: [2, 2], pads: [1, 0, 0, 1] }),
  'transposed convolution, more left over than its stride': (g, x) =>
    g.convTranspose(x, constant(g, [3, 2, 2, 2]), {
      strides: [2, 3],
      outputPadding: [1, 2],
      pads: [0, 1, 1, 0],
    }),
  'dilated maximum': (g, x) => g.append1('MaxPool', [x], { kernel_shape: [2, 2], dilations: [2, 3] }),
  'padded mean, padding counted': (g, x) =>
    g.averagePool(x, [3, 2], { pads: [1, 0, 1, 1], strides: [2, 1], countIncludePad: true }),
};

describe.each(tensorFlowLegs().map((leg) => [leg.title, leg] as const))('%s', (_title, { engine }) => {
  test.each(Object.entries(operators))('%s', async (name, build) => {
    const builder = new GraphBuilder();
    builder.input('x', 'float32', [2, 2, 4, 5]);
    const image = builder.conv('x', constant(builder, [3, 2, 1, 1], 'first'), {
      bias: constant(builder, [3]),
    });
    const result = build(builder, image);
    builder.output(result, 'result');
    if (!['cast', 'chosen by comparison'].includes(name)) {
      const weights = builder.constant(randomTensor(builder.dimsOf(result), 'weights'));
      const loss = builder.reduceSum(builder.mul(result, weights), undefined, false);
      builder.output(appendGradients(builder, loss, ['x']).get('x')!, 'gradient');
    }
    const graph = builder.build();
    const tensorsBefore = tf.memory().numTensors;

    const [worst] = await disagreements(engine, graph, { x: randomTensor([2, 2, 4, 5], 'x') });

    expect(worst!.error, worst!.output).toBeLessThan(tolerance);
    expect(elementCount(builder.dimsOf(result))).toBeGreaterThan(0);
    expect(tf.memory().numTensors).toBe(tensorsBefore);
  });
});
