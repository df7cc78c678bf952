import fc from 'fast-check';
import { Matrix, SVD } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import type { TruncatedFactors } from '../../core/lora/cut-factors.ts';
import { factorInnerProduct } from '../../core/lora/factor-inner-product.ts';
import { createFactorSum, type FactorPart } from '../../core/lora/factor-sum.ts';
import { mergeLora } from '../../core/lora/merge.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { randomLayer, randomTensor } from '../fixtures/random-state.ts';

function stackAndTruncate(
  parts: readonly FactorPart[],
  rank: number,
  scale: number,
  options: { seed: number },
): TruncatedFactors {
  const sum = createFactorSum(parts[0]!.a.dims, parts[0]!.b.dims);
  for (const part of parts) sum.add(part);
  return sum.truncate(rank, scale, options);
}

/** weight·scale·B·A by the textbook, in float64. */
function dense(part: FactorPart): Matrix {
  const r = part.a.dims[0]!;
  const out = part.b.dims[0]!;
  const cols = part.a.dims.slice(1).reduce((product, size) => product * size, 1);
  if (r === 0) return Matrix.zeros(out, cols);
  const b = Matrix.from1DArray(out, r, [...part.b.data]);
  const a = Matrix.from1DArray(r, cols, [...part.a.data]);
  return b.mmul(a).mul(part.weight * part.scale);
}

function denseSum(parts: readonly FactorPart[]): Matrix {
  return parts.map(dense).reduce((sum, matrix) => Matrix.add(sum, matrix));
}

const asPart = ({ a, b }: TruncatedFactors, scale: number): FactorPart => ({ weight: 1, scale, a, b });

/** ‖x − y‖ / ‖y‖ */
function distance(x: Matrix, y: Matrix): number {
  return Matrix.sub(x, y).norm() / Math.max(y.norm(), 1e-30);
}

const weightDims = fc.oneof(
  fc.tuple(fc.integer({ min: 1, max: 14 }), fc.integer({ min: 1, max: 14 })),
  fc.tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 4 }), fc.constant(3), fc.constant(3)),
);
const sites = fc.array(
  fc.record({
    r: fc.nat(6),
    scale: fc.double({ min: 0.01, max: 8, noNaN: true }),
    weight: fc.double({ min: 0.01, max: 500, noNaN: true }),
  }),
  { minLength: 1, maxLength: 6 },
);
/** Parts of sites with ranks, scales and weights of their own. */
const problem = fc.record({ dims: weightDims, sites, seed: fc.integer() }).map(({ dims, sites, seed }) => {
  const random = createRandom(seed);
  const parts = sites.map(({ r, scale, weight }) => ({
    weight,
    ...randomLayer('m', dims, r, scale, random),
  }));
  return {
    dims: dims as number[],
    parts,
    limit: Math.min(
      dims[0]!,
      dims.slice(1).reduce((x, y) => x * y, 1),
    ),
  };
});

describe('exact aggregation', () => {
  it('equals the dense sum at full rank, for any ranks, scales and weights', () => {
    fc.assert(
      fc.property(problem, fc.double({ min: 0.05, max: 5, noNaN: true }), ({ parts, limit }, scale) => {
        const result = stackAndTruncate(parts, limit, scale, { seed: 1 });
        const expected = denseSum(parts);
        expect(distance(dense(asPart(result, scale)), expected)).toBeLessThan(1e-5);
        expect(result.energyKept).toBeCloseTo(1, 6);
        expect(Math.sqrt(result.energy)).toBeCloseTo(expected.norm(), 3);
      }),
      { numRuns: 200 },
    );
  });

  it('cuts to the best approximation of a rank and reports the energy that it keeps', () => {
    fc.assert(
      fc.property(problem, fc.integer({ min: 1, max: 8 }), ({ parts }, rank) => {
        const expected = denseSum(parts);
        const sigma = new SVD(expected, { autoTranspose: true }).diagonal;
        const lost = Math.sqrt(sigma.slice(rank).reduce((sum, size) => sum + size * size, 0));
        const result = stackAndTruncate(parts, rank, 2, { seed: 1 });
        const error = Matrix.sub(dense(asPart(result, 2)), expected).norm();
        const total = expected.norm();
        // Eckart and Young: no matrix of this rank is nearer than the singular values that were left out.
        expect(Math.abs(error - lost)).toBeLessThan(1e-5 * Math.max(total, 1e-30));
        if (total > 0) expect(result.energyKept).toBeCloseTo(1 - (lost / total) ** 2, 5);
        else expect(result.energyKept).toBe(1);
      }),
      { numRuns: 200 },
    );
  });

  it('does not depend on the order of the sites', () => {
    fc.assert(
      fc.property(problem, ({ parts, limit }) => {
        const forwards = stackAndTruncate(parts, limit, 1, { seed: 1 });
        const backwards = stackAndTruncate([...parts].reverse(), limit, 1, { seed: 1 });
        expect(distance(dense(asPart(backwards, 1)), dense(asPart(forwards, 1)))).toBeLessThan(1e-5);
      }),
    );
  });

  it('merges partial sums to the same', () => {
    fc.assert(
      fc.property(problem, fc.nat(6), ({ parts, limit }, cut) => {
        const shape = parts[0]!;
        const [left, right, whole] = [0, 1, 2].map(() => createFactorSum(shape.a.dims, shape.b.dims));
        for (const part of parts.slice(0, cut)) left!.add(part);
        for (const part of parts.slice(cut)) right!.add(part);
        for (const part of parts) whole!.add(part);
        const merged = createFactorSum(shape.a.dims, shape.b.dims);
        merged.add(left!.toPart());
        merged.add(right!.toPart());
        const options = { seed: 1, divisor: parts.reduce((sum, part) => sum + part.weight, 0) };
        const [once, twice] = [whole!.truncate(limit, 1, options), merged.truncate(limit, 1, options)];
        expect(distance(dense(asPart(twice, 1)), dense(asPart(once, 1)))).toBeLessThan(1e-5);
      }),
    );
  });

  it('stays exact and bounded when far more rank is stacked than the layer has', () => {
    const random = createRandom(5);
    const sum = createFactorSum([1, 4, 3, 3], [10, 1, 1, 1]);
    const parts: FactorPart[] = [];
    for (let site = 0; site < 40; site++) {
      const part = { weight: 1 + site, ...randomLayer('m', [10, 4, 3, 3], 7, 0.5, random) };
      sum.add(part);
      parts.push(part);
    }
    const stack = sum.toPart();
    expect(stack.a.dims).toEqual([10, 4, 3, 3]);
    expect(stack.b.dims).toEqual([10, 10, 1, 1]);
    expect(distance(dense(stack), denseSum(parts))).toBeLessThan(1e-6);
    expect(distance(dense(asPart(sum.truncate(10, 1, { seed: 1 }), 1)), denseSum(parts))).toBeLessThan(1e-5);
  });

  it('splits evenly: both factors carry the root of the singular value', () => {
    const random = createRandom(8);
    const part = { weight: 1, ...randomLayer('m', [9, 7], 4, 3, random) };
    const { a, b } = stackAndTruncate([part], 4, 0.5, { seed: 1 });
    const sigma = new SVD(dense(part)).diagonal;
    for (let k = 0; k < 4; k++) {
      const row = Math.hypot(...a.data.subarray(k * 7, (k + 1) * 7));
      const column = Math.hypot(...Array.from({ length: 9 }, (_, i) => b.data[i * 4 + k]!));
      expect(row).toBeCloseTo(Math.sqrt(sigma[k]! / 0.5), 4);
      expect(column).toBeCloseTo(row, 4);
    }
  });

  it('gives directions without size a random A row and a zero B column', () => {
    const random = createRandom(9);
    const layer = randomLayer('m', [12, 30], 2, 1, random);
    // The same product twice: stacked rank 4, real rank 2.
    const { a, b } = stackAndTruncate(
      [
        { weight: 1, ...layer },
        { weight: 2, ...layer },
      ],
      6,
      1,
      { seed: 4 },
    );
    for (let k = 2; k < 6; k++) {
      const row = [...a.data.subarray(k * 30, (k + 1) * 30)];
      expect(Math.max(...row.map(Math.abs))).toBeLessThanOrEqual(1 / Math.sqrt(30));
      expect(Math.hypot(...row)).toBeGreaterThan(0.3);
      expect(Array.from({ length: 12 }, (_, i) => b.data[i * 6 + k]!)).toEqual(new Array(12).fill(0));
    }
    const again = stackAndTruncate([{ weight: 3, ...layer }], 6, 1, { seed: 4 });
    expect(again.a.data.subarray(60)).toEqual(a.data.subarray(60));
    const other = stackAndTruncate([{ weight: 3, ...layer }], 6, 1, { seed: 5 });
    expect(other.a.data.subarray(60)).not.toEqual(a.data.subarray(60));
  });

  it('starts factors from nothing, and never beyond the rank of the layer', () => {
    const sum = createFactorSum([0, 3, 3, 3], [8, 0, 1, 1]);
    const { a, b, energyKept } = sum.truncate(16, 2, { seed: 1 });
    expect([a.dims, b.dims]).toEqual([
      [8, 3, 3, 3],
      [8, 8, 1, 1],
    ]);
    expect(a.data.every((value) => value !== 0)).toBe(true);
    expect(b.data.every((value) => value === 0)).toBe(true);
    expect(energyKept).toBe(1);
  });

  it('spreads a direction over both factors alike, but makes no row of A shorter than a fresh one', () => {
    const random = createRandom(3);
    const layer = randomLayer('m', [12, 30], 4, 1, random);
    const fresh = 1 / Math.sqrt(3);
    for (const [weight, isLarge] of [
      [1e-3, false],
      [100, true],
    ] as const) {
      const { a, b } = stackAndTruncate([{ weight, ...layer }], 4, 2, { seed: 1 });
      for (let k = 0; k < 4; k++) {
        const rowOfA = Math.hypot(...a.data.subarray(k * 30, (k + 1) * 30));
        const columnOfB = Math.hypot(...Array.from({ length: 12 }, (_, i) => b.data[i * 4 + k]!));
        if (isLarge) expect(rowOfA / columnOfB).toBeCloseTo(1, 5);
        else expect(rowOfA).toBeCloseTo(fresh, 5);
        expect(columnOfB).toBeGreaterThan(0);
        expect(columnOfB < fresh).toBe(!isLarge);
      }
    }
  });

  it('cuts in two what is one: leading directions, and a slice of those behind them', async () => {
    await fc.assert(
      fc.asyncProperty(problem, fc.nat(6), fc.nat(6), async ({ parts, dims, limit }, first, more) => {
        const [cut, end] = [Math.min(first, limit), Math.min(first + more, limit)];
        const sum = createFactorSum(parts[0]!.a.dims, parts[0]!.b.dims);
        for (const part of parts) sum.add(part);
        const found = await sum.decompose(end);
        const [leading, rest] = [found.cut(cut, 1, { seed: 1, divisor: 3 }), found.slice(cut, end, 3)];
        const whole = found.cut(end, 1, { seed: 1, divisor: 3 });
        expect(rest.a.dims).toEqual([end - cut, ...dims.slice(1)]);
        const both = [leading, { ...leading, ...rest }].map((each) => asPart(each, 1));
        expect(distance(denseSum(both), dense(asPart(whole, 1)))).toBeLessThan(1e-5);
        expect(leading.keptEnergy + rest.energy).toBeCloseTo(whole.keptEnergy, 6);
        expect(() => found.slice(cut, end + 1)).toThrow(RangeError);
      }),
      { numRuns: 60 },
    );
  });

  it('refuses factors of another layer and values that are not finite', () => {
    const random = createRandom(1);
    const sum = createFactorSum([2, 5], [4, 2]);
    const stranger = { weight: 1, ...randomLayer('m', [4, 6], 2, 1, random) };
    expect(() => sum.add(stranger)).toThrow(expect.objectContaining({ code: 'SHAPE_MISMATCH' }));
    const broken = { weight: 1, ...randomLayer('m', [4, 5], 2, 1, random) };
    broken.a.data[3] = NaN;
    sum.add(broken);
    expect(() => sum.truncate(2, 1, { seed: 1 })).toThrow(
      expect.objectContaining({ code: 'UPDATE_REJECTED' }),
    );
  });

  it('is not what averaging the factors apart gives', () => {
    const random = createRandom(2);
    const [x, y] = [randomLayer('m', [10, 10], 3, 1, random), randomLayer('m', [10, 10], 3, 1, random)];
    const mean = (p: Float32Array, q: Float32Array) => p.map((value, i) => (value + q[i]!) / 2);
    const apart = {
      weight: 1,
      scale: 1,
      a: floatTensor(x.a.dims, mean(x.a.data, y.a.data)),
      b: floatTensor(x.b.dims, mean(x.b.data, y.b.data)),
    };
    const parts = [x, y].map((layer) => ({ weight: 0.5, ...layer }));
    const exact = asPart(stackAndTruncate(parts, 6, 1, { seed: 1 }), 1);
    expect(distance(dense(exact), denseSum(parts))).toBeLessThan(1e-6);
    expect(distance(dense(apart), denseSum(parts))).toBeGreaterThan(0.3);
  });
});

describe('one layer', () => {
  it('merges into the weight of the network', () => {
    const random = createRandom(6);
    const layer = randomLayer('m', [4, 2, 3, 3], 2, 1.5, random);
    const weight = randomTensor([4, 2, 3, 3], random);
    const merged = mergeLora(weight, layer);
    const expected = dense({ weight: 1, ...layer }).to1DArray();
    merged.data.forEach((value, i) => {
      expect(value).toBeCloseTo(weight.data[i]! + expected[i]!, 5);
    });
    expect(merged.dims).toEqual([4, 2, 3, 3]);
    expect(deltaWeight(layer).data[5]).toBeCloseTo(expected[5]!, 5);
    expect(() => mergeLora(randomTensor([4, 18], random), layer)).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    );
  });

  it('has inner products with itself and with others as its ΔW has', () => {
    const ranks = fc.tuple(fc.nat(9), fc.nat(9));
    fc.assert(
      fc.property(weightDims, ranks, fc.integer(), (dims, [r, s], seed) => {
        const random = createRandom(seed);
        const [x, y] = [randomLayer('m', dims, r, 2, random), randomLayer('m', dims, s, 0.3, random)];
        const [denseX, denseY] = [dense({ weight: 1, ...x }), dense({ weight: 1, ...y })];
        const size = Math.max(1e-9, denseX.norm() * denseY.norm());
        const expected = Matrix.mul(denseX, denseY).sum();
        expect(Math.abs(factorInnerProduct(x, y) - expected) / size).toBeLessThan(1e-10);
        const square = denseX.norm() ** 2;
        expect(Math.abs(factorInnerProduct(x, x) - square)).toBeLessThan(1e-10 * Math.max(1e-9, square));
      }),
    );
  });
});
