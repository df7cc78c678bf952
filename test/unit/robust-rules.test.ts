/** Median and trimmed mean: what hostile sites cannot do to single values, and what must not matter. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import {
  combineAllRobustly,
  combineRobustly,
  trimmedCount,
  type ValuewiseRule,
} from '../../core/strategy/robust/combine.ts';

const row = (values: readonly number[]) => floatTensor([values.length], Float32Array.from(values));
const finite = fc.float({ min: -100, max: 100, noNaN: true });
const anything = fc.oneof(finite, fc.constantFrom(-1e30, 1e30, 0));

const rules: [string, ValuewiseRule, (sites: number) => number][] = [
  ['median', { rule: 'median' }, (sites) => Math.ceil(sites / 2) - 1],
  ['trimmed mean', { rule: 'trimmed-mean', share: 0.3 }, (sites) => trimmedCount(0.3, sites)],
];

describe.each(rules)('%s', (_name, rule, withstands) => {
  /** Good sites' values of a few coordinates, and as many hostile ones as the rule withstands. */
  const sites = fc.integer({ min: 3, max: 9 }).chain((count) => {
    const width = 3;
    const values = (value: fc.Arbitrary<number>) => fc.array(value, { minLength: width, maxLength: width });
    const hostile = withstands(count);
    return fc.record({
      good: fc.array(values(finite), { minLength: count - hostile, maxLength: count - hostile }),
      hostile: fc.array(values(anything), { minLength: hostile, maxLength: hostile }),
    });
  });

  it('stays within the range of the good sites, whatever the others send', () => {
    fc.assert(
      fc.property(sites, ({ good, hostile }) => {
        const { data } = combineRobustly(rule, [...hostile, ...good].map(row));
        data.forEach((value, i) => {
          const column = good.map((values) => Math.fround(values[i]!));
          expect(value).toBeGreaterThanOrEqual(Math.min(...column) - 1e-4);
          expect(value).toBeLessThanOrEqual(Math.max(...column) + 1e-4);
        });
      }),
    );
  });

  it('does not depend on the order of the sites', () => {
    fc.assert(
      fc.property(sites, fc.integer(), ({ good, hostile }, seed) => {
        const all = [...good, ...hostile].map(row);
        expect(combineRobustly(rule, createRandom(seed).shuffle(all))).toEqual(combineRobustly(rule, all));
      }),
    );
  });

  it('moves with its input', () => {
    fc.assert(
      fc.property(sites, finite, ({ good }, shift) => {
        const before = combineRobustly(rule, good.map(row)).data;
        const after = combineRobustly(
          rule,
          good.map((values) => row(values.map((value) => value + shift))),
        ).data;
        after.forEach((value, i) => {
          expect(Math.abs(value - before[i]! - shift)).toBeLessThan(1e-3);
        });
      }),
    );
  });
});

describe('merging value by value', () => {
  it('gives the middle value, or the mean of the two middle ones', () => {
    const rule = { rule: 'median' } as const;
    expect(combineRobustly(rule, [row([3]), row([1]), row([100])]).data[0]).toBe(3);
    expect(combineRobustly(rule, [row([3]), row([1]), row([100]), row([5])]).data[0]).toBe(4);
  });

  it('leaves out the share of the largest and of the smallest values', () => {
    const rule = { rule: 'trimmed-mean', share: 0.2 } as const;
    const values = [-1000, 1, 2, 6, 1000].map((value) => row([value]));
    expect(combineRobustly(rule, values).data[0]).toBe(3);
    expect(trimmedCount(0.29, 100)).toBe(29);
    expect(trimmedCount(0.2, 4)).toBe(0);
  });

  it('finds the middle among many sites, too', () => {
    const random = createRandom(1);
    const values = random.shuffle(Array.from({ length: 101 }, (_, i) => i));
    expect(
      combineRobustly(
        { rule: 'median' },
        values.map((value) => row([value])),
      ).data[0],
    ).toBe(50);
    const few = random.shuffle(Array.from({ length: 63 }, (_, i) => i - 31));
    expect(
      combineRobustly(
        { rule: 'median' },
        few.map((value) => row([value])),
      ).data[0],
    ).toBe(0);
  });

  it('refuses other shapes and other names', () => {
    const rule = { rule: 'median' } as const;
    expect(() => combineRobustly(rule, [row([1]), row([1, 2])])).toThrow(/differs in shape/);
    const named = (name: string) => new Map([[name, row([1])]]);
    expect(() => combineAllRobustly(rule, [named('x'), named('y')])).toThrow(/"x" is missing/);
    expect(() => combineAllRobustly(rule, [named('x'), new Map()])).toThrow(
      /tensors differ from those of other sites/,
    );
  });
});
