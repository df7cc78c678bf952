import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { spectralRanks } from '../../core/strategy/allocation.ts';

const layers = fc
  .uniqueArray(
    fc.record({
      module: fc.string({ minLength: 1, maxLength: 4 }),
      sizes: fc.array(fc.oneof(fc.double({ min: 0, max: 9, noNaN: true }), fc.constantFrom(0, 1, 2)), {
        maxLength: 9,
      }),
      limit: fc.nat(8),
    }),
    { selector: ({ module }) => module, minLength: 1, maxLength: 8 },
  )
  .map((rows) => ({
    sizes: new Map(rows.map(({ module, sizes }) => [module, sizes])),
    limits: new Map(rows.map(({ module, limit }) => [module, limit])),
  }));
const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);
const sorted = (sizes: readonly number[]) => [...sizes].sort((x, y) => y - x);
/** Squares of the sizes that these ranks keep. */
const keptEnergy = (sizes: ReadonlyMap<string, readonly number[]>, ranks: ReadonlyMap<string, number>) =>
  sum(
    [...sizes].flatMap(([module, each]) =>
      sorted(each)
        .slice(0, ranks.get(module))
        .map((size) => size ** 2),
    ),
  );

describe('spectral allocation', () => {
  it('spends the budget exactly, and no layer more than its limit', () => {
    fc.assert(
      fc.property(layers, fc.nat(60), ({ sizes, limits }, budget) => {
        const ranks = spectralRanks(sizes, budget, limits);
        expect(sum(ranks.values())).toBe(Math.min(budget, sum(limits.values())));
        for (const [module, rank] of ranks) expect(rank).toBeLessThanOrEqual(limits.get(module)!);
        expect([...ranks.keys()].sort()).toEqual([...sizes.keys()].sort());
      }),
    );
  });

  it('leaves no layer without a direction that the budget could give it', () => {
    fc.assert(
      fc.property(layers, fc.nat(30), ({ sizes, limits }, extra) => {
        const able = [...limits].filter(([, limit]) => limit > 0);
        const ranks = spectralRanks(sizes, able.length + extra, limits);
        for (const [module] of able) expect(ranks.get(module)).toBeGreaterThanOrEqual(1);
      }),
    );
  });

  it('keeps the largest: no direction that is left out is larger than a kept one beyond the first of its layer', () => {
    fc.assert(
      fc.property(layers, fc.nat(60), ({ sizes, limits }, budget) => {
        const ranks = spectralRanks(sizes, budget, limits);
        const sizeAt = (module: string, k: number) => sorted(sizes.get(module)!)[k] ?? 0;
        const rows = [...ranks];
        const kept = rows.filter(([, rank]) => rank >= 2).map(([module, rank]) => sizeAt(module, rank - 1));
        const left = rows
          .filter(([module, rank]) => rank < limits.get(module)! && rank > 0)
          .map(([module, rank]) => sizeAt(module, rank));
        if (kept.length > 0 && left.length > 0)
          expect(Math.max(...left)).toBeLessThanOrEqual(Math.min(...kept));
      }),
    );
  });

  it('keeps at least the energy of the uniform spread of the same budget', () => {
    fc.assert(
      fc.property(layers, fc.integer({ min: 1, max: 8 }), ({ sizes, limits }, rank) => {
        const uniform = new Map([...limits].map(([module, limit]) => [module, Math.min(rank, limit)]));
        const ranks = spectralRanks(sizes, sum(uniform.values()), limits);
        expect(keptEnergy(sizes, ranks)).toBeGreaterThanOrEqual(keptEnergy(sizes, uniform) * (1 - 1e-12));
      }),
    );
  });

  it('does not depend on the order of layers or sizes; equal sizes go by name', () => {
    const limits = new Map([
      ['a', 4],
      ['b', 4],
      ['c', 4],
    ]);
    const sizes: [string, number[]][] = [
      ['b', [2, 1, 1]],
      ['c', [5, 4, 1]],
      ['a', [2, 1, 1]],
    ];
    const forwards = spectralRanks(new Map(sizes), 5, limits);
    const backwards = spectralRanks(
      new Map([...sizes].reverse().map(([module, values]) => [module, [...values].reverse()])),
      5,
      limits,
    );
    expect([...forwards]).toEqual([
      ['a', 2],
      ['b', 1],
      ['c', 2],
    ]);
    expect([...backwards]).toEqual([...forwards]);
  });

  it('gives the largest layers one each when the budget does not reach all', () => {
    const limits = new Map(['a', 'b', 'c'].map((module) => [module, 4]));
    const sizes = new Map([
      ['a', [1, 1]],
      ['b', [3, 0.5]],
      ['c', [2, 1.9]],
    ]);
    expect([...spectralRanks(sizes, 2, limits)]).toEqual([
      ['a', 0],
      ['b', 1],
      ['c', 1],
    ]);
  });

  it('refuses what is no size, no budget and no limit', () => {
    const limits = new Map([['a', 2]]);
    expect(() => spectralRanks(new Map([['a', [NaN]]]), 1, limits)).toThrow(RangeError);
    expect(() => spectralRanks(new Map([['a', [1]]]), 1.5, limits)).toThrow(RangeError);
    expect(() => spectralRanks(new Map([['b', [1]]]), 1, limits)).toThrow('the layer "b" has no limit');
  });
});
