/** What the benchmarks compute from their measurements. */
import { describe, expect, test } from 'vitest';
import { countFlops } from '../../core/graph/count-flops.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { compareSides } from '../bench/compare.ts';
import { median } from '../bench/median.ts';
import { readOptions } from '../bench/options.ts';

const side = (loss: number, ...values: number[]) => ({
  loss,
  gradients: new Map([
    ['a', floatTensor([2], Float32Array.from(values.slice(0, 2)))],
    ['b', floatTensor([1], Float32Array.from(values.slice(2)))],
  ]),
});

describe('countFlops', () => {
  test('counts two operations per multiply-add of products and convolutions, and nothing else', () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [2, 4, 8, 8]);
    // 2 · (2·6·8·8 outputs) · (4 / 2 · 3 · 3)
    const grouped = builder.conv(x, builder.constant(floatTensor([6, 2, 3, 3])), {
      pads: [1, 1, 1, 1],
      group: 2,
    });
    const rows = builder.reshape(builder.relu(grouped), [12, 64]);
    // 2 · (5·64) · 12
    const turned = builder.gemm(builder.constant(floatTensor([12, 5])), rows, undefined, { transA: true });
    // 2 · (5·3) · 64
    builder.output(builder.matMul(turned, builder.constant(floatTensor([64, 3]))), 'y');

    expect(countFlops(builder.build())).toBe(2 * 768 * 18 + 2 * 320 * 12 + 2 * 15 * 64);
  });
});

describe('compareSides', () => {
  test('gives the distance of the whole gradient, and the worst parameter', () => {
    const comparison = compareSides(side(2.2, 3, 4, 12), side(2, 3, 4, 13));

    expect(comparison.lossDifference).toBeCloseTo(0.1);
    expect(comparison.gradientDifference).toBeCloseTo(1 / Math.sqrt(9 + 16 + 169));
    expect(comparison).toMatchObject({ worst: 'b', parameters: 2 });
    expect(comparison.worstDifference).toBeCloseTo(1 / 13);
  });

  test('a gradient that is not a number is no match', () => {
    const comparison = compareSides(side(2, Number.NaN, 4, 13), side(2, 3, 4, 13));

    expect(comparison.worstDifference).toBeNaN();
    expect(comparison.gradientDifference).toBeNaN();
  });

  test('refuses sides that train other parameters', () => {
    const other = { loss: 2, gradients: new Map([['a', floatTensor([2])]]) };

    expect(() => compareSides(other, side(2, 3, 4, 12))).toThrow(/other parameters/);
  });
});

describe('median', () => {
  test('is the middle, or the mean of the two middle ones', () => {
    expect(median([5, 1, 3])).toBe(3);
    expect(median([4, 1, 3, 2])).toBe(2.5);
  });
});

describe('readOptions', () => {
  test.each([
    [['--networks', 'vit-huge'], /networks are face-resnet-128/],
    [['--pairs', '0'], /--pairs/],
    [['--nonsense'], /--nonsense/],
  ])('says what is wrong with %j', (args, message) => {
    expect(() => readOptions(['--ours-only', ...args])).toThrow(message);
  });
});
