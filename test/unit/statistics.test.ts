import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { meanInterval, studentQuantile } from '../../core/simulation/statistics.ts';
import { pairedBootstrap, pairedDifference } from '../bench/paper/paired.ts';

interface Reference {
  first: number[];
  second: number[];
  mean: number;
  interval: [number, number];
  paired: { pValue: number; interval: [number, number] };
  quantiles: [number, number, number][];
}
/** Values of SciPy; test/fixtures/evaluation/make_reference.py made them. */
const { statistics } = JSON.parse(
  await readFile(new URL('../fixtures/evaluation/reference.json', import.meta.url), 'utf8'),
) as { statistics: Reference };
const { first, second } = statistics;

describe('statistics over seeds', () => {
  test.each(statistics.quantiles)('Student: %d of the weight, %i degrees of freedom', (share, freedom, t) => {
    expect(Math.abs(studentQuantile(share, freedom) / t - 1)).toBeLessThan(1e-10);
  });

  test('mean and interval are those of SciPy', () => {
    const interval = meanInterval(first);

    expect(interval.mean).toBeCloseTo(statistics.mean, 12);
    expect(interval.lower).toBeCloseTo(statistics.interval[0], 12);
    expect(interval.upper).toBeCloseTo(statistics.interval[1], 12);
    expect(interval.count).toBe(5);
  });

  test('one value has no spread; none, or one that is no number, is refused', () => {
    expect(meanInterval([0.5])).toEqual({
      mean: 0.5,
      lower: 0.5,
      upper: 0.5,
      standardDeviation: 0,
      count: 1,
    });
    for (const values of [[], [1, Number.NaN], [Number.POSITIVE_INFINITY]])
      expect(() => meanInterval(values)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  test('the paired difference is that of SciPy', () => {
    const paired = pairedDifference(first, second);

    expect(paired.pValue).toBeCloseTo(statistics.paired.pValue, 12);
    expect(paired.lower).toBeCloseTo(statistics.paired.interval[0], 12);
    expect(paired.upper).toBeCloseTo(statistics.paired.interval[1], 12);
    expect(pairedDifference(second, first).pValue).toBe(paired.pValue);
    expect(pairedDifference(first, first).pValue).toBe(1);
    expect(pairedDifference([1, 2, 3], [0, 1, 2]).pValue).toBe(0);
    expect(pairedDifference([1], [0]).pValue).toBeNull();
    expect(() => pairedDifference(first, [1])).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  test('a bootstrap repeats by its seed and lies within the differences, around their mean', () => {
    const pairs = fc.array(
      fc.tuple(fc.double({ min: -1, max: 1, noNaN: true }), fc.double({ min: -1, max: 1, noNaN: true })),
      {
        minLength: 2,
        maxLength: 12,
      },
    );
    fc.assert(
      fc.property(pairs, fc.integer(), (drawn, seed) => {
        const [a, b] = [drawn.map(([x]) => x), drawn.map(([, y]) => y)];
        const differences = drawn.map(([x, y]) => x - y);

        const interval = pairedBootstrap(a, b, { seed, resamples: 400 });

        expect(pairedBootstrap(a, b, { seed, resamples: 400 })).toEqual(interval);
        expect(interval.lower).toBeGreaterThanOrEqual(Math.min(...differences) - 1e-12);
        expect(interval.upper).toBeLessThanOrEqual(Math.max(...differences) + 1e-12);
        expect(interval.lower).toBeLessThanOrEqual(interval.upper);
      }),
      { numRuns: 50 },
    );
  });

  test('the bootstrap is about as wide as normal theory says where there are many pairs', () => {
    const values = Array.from({ length: 400 }, (_, index) => Math.sin(index * 1.7));
    const zeros = values.map(() => 0);

    const bootstrap = pairedBootstrap(values, zeros, { seed: 3 });

    const student = meanInterval(values);
    const width = (bootstrap.upper - bootstrap.lower) / (student.upper - student.lower);
    expect(Math.abs(width - 1)).toBeLessThan(0.05);
  });
});
