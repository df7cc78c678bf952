/** What a damaged or hostile model could ask for is refused with a clear error, never with a crash. */
import { describe, expect, test } from 'vitest';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor } from '../../core/shared/tensor.ts';

function builderOfInputs(): GraphBuilder {
  const builder = new GraphBuilder();
  builder.input('matrix', 'float32', [2, 3]);
  builder.input('image', 'float32', [1, 4, 6, 6]);
  builder.input('whole', 'int64', [2, 3]);
  return builder;
}

const weights = (g: GraphBuilder, dims: number[]) => g.constant(floatTensor(dims));
const vector = (g: GraphBuilder, size: number) => weights(g, [size]);
const conv = (g: GraphBuilder, dims: number[], attributes: Record<string, number | number[] | string>) =>
  g.append1('Conv', ['image', weights(g, dims)], attributes);

describe('shapes that do not fit', () => {
  test.each<[string, (g: GraphBuilder) => unknown, string]>([
    ['Conv with a stride of 0', (g) => conv(g, [2, 4, 3, 3], { strides: [0, 1] }), 'window'],
    ['Conv with a negative pad', (g) => conv(g, [2, 4, 3, 3], { pads: [-1, 0, 0, 0] }), 'pad'],
    ['Conv with three strides', (g) => conv(g, [2, 4, 3, 3], { strides: [1, 1, 1] }), 'window'],
    ['Conv with two pads', (g) => conv(g, [2, 4, 3, 3], { pads: [1, 1] }), 'window'],
    ['Conv with no groups', (g) => conv(g, [2, 4, 3, 3], { group: 0 }), 'groups'],
    ['Conv with another kernel_shape', (g) => conv(g, [2, 4, 3, 3], { kernel_shape: [5, 5] }), 'window'],
    ['Conv with auto_pad', (g) => conv(g, [2, 4, 3, 3], { auto_pad: 'SAME_UPPER' }), 'auto_pad'],
    ['Conv of a matrix', (g) => g.conv('matrix', weights(g, [2, 3, 1, 1])), 'rank 4'],
    [
      'ConvTranspose with groups that do not divide',
      (g) => g.convTranspose('image', weights(g, [4, 1, 2, 2]), { group: 3 }),
      'channels',
    ],
    [
      'ConvTranspose with a short bias',
      (g) => g.convTranspose('image', weights(g, [4, 2, 2, 2]), { bias: vector(g, 1) }),
      'bias',
    ],
    [
      'ConvTranspose with output_padding as wide as the stride',
      (g) => g.convTranspose('image', weights(g, [4, 2, 2, 2]), { outputPadding: [1, 0] }),
      'output_padding',
    ],
    ['MaxPool without a kernel', (g) => g.append1('MaxPool', ['image']), 'window'],
    ['MaxPool with indices', (g) => g.append('MaxPool', ['image'], { kernel_shape: [2, 2] }, 2), 'output'],
    ['GlobalAveragePool of a matrix', (g) => g.globalAveragePool('matrix'), 'no axes'],
    [
      'BatchNormalization with a short mean',
      (g) =>
        g.append1('BatchNormalization', ['image', vector(g, 4), vector(g, 4), vector(g, 3), vector(g, 4)]),
      'input 3',
    ],
    [
      'BatchNormalization in training',
      (g) =>
        g.append1('BatchNormalization', ['image', vector(g, 4), vector(g, 4), vector(g, 4), vector(g, 4)], {
          training_mode: 1,
        }),
      'inference',
    ],
    [
      'InstanceNormalization of a matrix',
      (g) => g.instanceNormalization('matrix', vector(g, 3), vector(g, 3)),
      'no axes',
    ],
    [
      'GroupNormalization with groups that do not divide',
      (g) => g.append1('GroupNormalization', ['image', vector(g, 4), vector(g, 4)], { num_groups: 3 }),
      'groups',
    ],
    [
      'GroupNormalization with a scale per group',
      (g) => g.append1('GroupNormalization', ['image', vector(g, 2), vector(g, 2)], { num_groups: 2 }),
      '[4]',
    ],
    ['LpNormalization with p 3', (g) => g.append1('LpNormalization', ['matrix'], { p: 3 }), 'p = 3'],
    [
      'PRelu with a slope that would grow the input',
      (g) => g.append1('PRelu', ['matrix', weights(g, [4, 2, 3])]),
      'slope',
    ],
    ['Clip with a vector as bound', (g) => g.append1('Clip', ['matrix', vector(g, 3)]), 'scalars'],
    ['Exp of integers', (g) => g.exp('whole'), 'float32'],
    ['Max of two types', (g) => g.max('matrix', 'whole'), 'types'],
    ['Slice with a step of 0', (g) => g.slice('matrix', [0], [1], [0], [0]), 'step'],
    ['Slice that lists an axis twice', (g) => g.slice('matrix', [0, 0], [1, 1], [0, -2]), 'each listed axis'],
    ['Slice with more starts than ends', (g) => g.slice('matrix', [0, 0], [1], [0, 1]), 'each listed axis'],
    ['Flatten at an axis that is not there', (g) => g.flatten('matrix', 3), 'axis 3'],
    ['Unsqueeze that lists an axis twice', (g) => g.unsqueeze('matrix', [0, -4]), 'twice'],
    ['Split into a negative piece', (g) => g.split('matrix', [4, -1], 1), 'negative'],
    [
      'Split without sizes along an axis that is not there',
      (g) => g.append('Split', ['matrix'], { axis: 5 }, 2),
      'axis 5',
    ],
    ['Gather with floats as indices', (g) => g.gather('matrix', 'matrix'), 'int64'],
    ['Expand to more than any machine holds', (g) => g.expand(g.scalar(1), [2 ** 30, 2 ** 30]), 'impossible'],
    ['Expand to a negative size', (g) => g.expand(g.scalar(1), [-2]), 'impossible'],
    ['Pad that leaves less than nothing', (g) => g.pad('matrix', [0, -4, 0, 0]), 'impossible'],
    [
      'Pad by reflection beyond the image',
      (g) => g.append1('Pad', ['matrix', g.integers([2, 0, 0, 0])], { mode: 'reflect' }),
      'reach',
    ],
    [
      'Pad with more pads than axes',
      (g) => g.append1('Pad', ['matrix', g.integers([1, 1, 1]), '', g.integers([0])], { mode: 'edge' }),
      'differ',
    ],
    ['Tile with one repeat for two axes', (g) => g.append1('Tile', ['matrix', g.integers([2])]), 'repeat'],
    [
      'DepthToSpace with channels that do not fill the blocks',
      (g) => g.append1('DepthToSpace', ['image'], { blocksize: 3 }),
      'blocks',
    ],
    [
      'SpaceToDepth with blocks that do not fit',
      (g) => g.append1('SpaceToDepth', ['image'], { blocksize: 4 }),
      'fit',
    ],
    ['Resize to nothing', (g) => g.append1('Resize', ['matrix', '', '', g.integers([0, 3])]), 'places'],
    ['Resize with neither factors nor sizes', (g) => g.append1('Resize', ['matrix']), 'one size per axis'],
    ['MatMul of a scalar', (g) => g.matMul(g.scalar(1), vector(g, 3)), 'scalar'],
    ['Sum of nothing', (g) => g.append1('Sum', []), 'no input 0'],
    ['Relu of nothing', (g) => g.append1('Relu', []), 'input 0 is missing'],
  ])('%s', (_title, build, reason) => {
    const builder = builderOfInputs();

    expect(() => build(builder)).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH', message: expect.stringContaining(reason) }),
    );
  });

  test.each<[string, (g: GraphBuilder) => unknown]>([
    ['Dropout in training', (g) => g.append1('Dropout', ['matrix'], { training_mode: 1 })],
    ['Dropout with its mask', (g) => g.append('Dropout', ['matrix'], {}, 2)],
    [
      'Resize in an unknown mode',
      (g) => g.append1('Resize', ['matrix', '', '', g.integers([4, 6])], { mode: 'area' }),
    ],
    ['Resize of the channels', (g) => g.append1('Resize', ['image', '', '', g.integers([1, 2, 6, 6])])],
    [
      'Pad in an unknown mode',
      (g) => g.append1('Pad', ['matrix', g.integers([1, 0, 0, 0])], { mode: 'mirror' }),
    ],
    [
      'Pad in a mode named like a method of every object',
      (g) => g.append1('Pad', ['matrix', g.integers([1, 0, 0, 0])], { mode: 'constructor' }),
    ],
    ...['coordinate_transformation_mode', 'nearest_mode'].map(
      (setting): [string, (g: GraphBuilder) => unknown] => [
        `Resize with a ${setting} named like a method of every object`,
        (g) => g.append1('Resize', ['matrix', '', '', g.integers([4, 6])], { [setting]: 'valueOf' }),
      ],
    ),
    ['Reshape to a computed shape', (g) => g.append1('Reshape', ['matrix', 'whole'])],
    ['Tile by computed repeats', (g) => g.append1('Tile', ['matrix', 'whole'])],
  ])('%s is named as not supported', (title, build) => {
    const builder = builderOfInputs();

    expect(() => build(builder)).toThrow(
      expect.objectContaining({
        code: 'OPERATOR_UNSUPPORTED',
        message: expect.stringContaining(title.split(' ')[0]!),
      }),
    );
  });
});
