import fc from 'fast-check';
import { Matrix } from 'ml-matrix';
import { InferenceSession } from 'onnxruntime-node';
import { describe, expect, it, vi } from 'vitest';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import {
  createPlainProducts,
  type DenseMatrix,
  type RoughMatrix,
  releaseMatrix,
} from '../../core/linalg/matrix-products.ts';
import { createFactorSum, type FactorPart } from '../../core/lora/factor-sum.ts';
import { createRandom } from '../../core/shared/random.ts';
import { randomLayer } from '../fixtures/random-state.ts';

const implementations = { 'plain loops': createPlainProducts(), 'ONNX Runtime': createOnnxRuntimeProducts() };

function randomMatrix(rows: number, cols: number, seed: number): DenseMatrix {
  const random = createRandom(seed);
  return { rows, cols, data: Float64Array.from({ length: rows * cols }, () => random.normal()) };
}
const asMatrix = ({ rows, cols, data }: DenseMatrix) =>
  rows * cols === 0 ? Matrix.zeros(rows, cols) : Matrix.from1DArray(rows, cols, [...data]);
const distance = (x: Matrix, y: Matrix) => Matrix.sub(x, y).norm() / Math.max(1e-300, y.norm());

describe.each(Object.entries(implementations))('products by %s', (_name, products) => {
  it('multiply as the textbook does, transposed or not', async () => {
    // Sizes on both sides of what is worth a call of the runtime.
    const size = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 30, max: 60 }));
    const shape = fc.record({
      m: size,
      k: size,
      n: size,
      transposeX: fc.boolean(),
      transposeY: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(shape, fc.integer(), async ({ m, k, n, transposeX, transposeY }, seed) => {
        const x = transposeX ? randomMatrix(k, m, seed) : randomMatrix(m, k, seed);
        const y = transposeY ? randomMatrix(n, k, seed + 1) : randomMatrix(k, n, seed + 1);
        const product = await products.multiply(x, y, { transposeX, transposeY });
        const [left, right] = [asMatrix(x), asMatrix(y)];
        const expected = (transposeX ? left.transpose() : left).mmul(transposeY ? right.transpose() : right);
        expect([product.rows, product.cols]).toEqual([m, n]);
        expect(distance(asMatrix(product), expected)).toBeLessThan(1e-13);
      }),
      { numRuns: 60 },
    );
  });

  it('add up weighted terms in float64', async () => {
    const random = createRandom(4);
    const [count, rows, cols] = [40, 50, 30];
    const terms = {
      weights: Float64Array.from({ length: count }, () => 1e3 * random.normal()),
      left: Float32Array.from({ length: count * rows }, () => random.normal()),
      right: Float32Array.from({ length: count * cols }, () => random.normal()),
    };
    const sum = await products.sumTerms(terms, rows);
    const expected = Matrix.from1DArray(rows, count, [...terms.left])
      .mulRowVector([...terms.weights])
      .mmul(Matrix.from1DArray(count, cols, [...terms.right]));
    expect([sum.rows, sum.cols]).toEqual([rows, cols]);
    expect(distance(asMatrix(sum), expected)).toBeLessThan(1e-13);
    // Onto another sum, which stays as it is.
    const start = randomMatrix(rows, cols, 5);
    const together = await products.sumTerms(terms, rows, start);
    expect(distance(asMatrix(together), Matrix.add(expected, asMatrix(start)))).toBeLessThan(1e-13);
    expect(start.data).toEqual(randomMatrix(rows, cols, 5).data);
  });

  it.each([
    [5, 6, 7],
    [60, 50, 40],
  ])('multiply in float32 (%i × %i × %i)', async (m, k, n) => {
    const rough = ({ data, ...size }: DenseMatrix) => ({ ...size, data: new Float32Array(data) });
    const [x, y] = [rough(randomMatrix(m, k, 6)), rough(randomMatrix(k, n, 7))];
    const product = await products.multiplyRoughly(x, y);
    const wide = ({ data, ...size }: RoughMatrix) => asMatrix({ ...size, data: new Float64Array(data) });
    expect(product.data).toBeInstanceOf(Float32Array);
    expect(distance(wide(product), wide(x).mmul(wide(y)))).toBeLessThan(1e-6);
    await expect(products.multiplyRoughly(x, x)).rejects.toThrow('cannot multiply');
  });

  it('refuse what does not fit', async () => {
    await expect(products.multiply(randomMatrix(3, 4, 1), randomMatrix(5, 2, 1))).rejects.toThrow(
      'cannot multiply 3 × 4 by 5 × 2',
    );
  });

  it('sum the products of many sites exactly, cut and measured as the dense sum is', async () => {
    const random = createRandom(11);
    const dims = [96, 80];
    const sum = createFactorSum([1, 80], [96, 1], products);
    const exact = Matrix.zeros(96, 80);
    const parts: FactorPart[] = [];
    for (let site = 0; site < 30; site++) {
      const part = { weight: 1 + site, ...randomLayer('m', dims, 1 + (site % 7), 0.5 + site / 10, random) };
      await sum.add(part);
      parts.push(part);
      exact.add(denseOf(part));
    }
    const { sizes, energy, cut } = await sum.decompose(8);
    const stack = sum.toPart();
    const { a, b, keptEnergy } = cut(8, 2, { seed: 1, divisor: 10 });
    const ours = denseOf({ weight: 10, scale: 2, a, b });
    const truncated = sum.truncate(8, 2, { seed: 1, divisor: 10 });

    expect(distance(denseOf(stack), exact)).toBeLessThan(1e-6);
    expect(energy / exact.norm() ** 2).toBeCloseTo(1, 10);
    expect(keptEnergy / truncated.keptEnergy).toBeCloseTo(1, 6);
    expect(distance(ours, denseOf({ weight: 10, scale: 2, a: truncated.a, b: truncated.b }))).toBeLessThan(
      1e-5,
    );
    expect(sizes).toHaveLength(8);
    // The inner product with one of the parts, against the dense matrices.
    const other = denseOf(parts[3]!);
    const along = Matrix.mul(exact, other).sum();
    expect((await sum.innerProduct(parts[3]!)) / along).toBeCloseTo(1, 8);
    // Two cuts of one decomposition: the smaller is the head of the larger.
    expect(() => cut(9, 1, { seed: 1 })).toThrow(RangeError);
    expect(cut(3, 2, { seed: 1, divisor: 10 }).a.data).toEqual(a.data.subarray(0, 3 * 80));
  });

  it('keep few factors as they are, with the same answers', async () => {
    const random = createRandom(12);
    const sum = createFactorSum([1, 40], [60, 1], products);
    const part = { weight: 2, ...randomLayer('m', [60, 40], 5, 1.5, random) };
    await sum.add(part);
    const exact = denseOf(part);
    expect((await sum.decompose(0)).energy / exact.norm() ** 2).toBeCloseTo(1, 10);
    expect((await sum.innerProduct(part)) / exact.norm() ** 2).toBeCloseTo(1, 10);
    expect((await sum.decompose(5)).sizes).toHaveLength(5);
    // Still there after being looked at.
    await sum.add(part);
    expect((await sum.decompose(0)).energy / exact.norm() ** 2).toBeCloseTo(4, 8);
  });
});

it('a sum that is still being added to says so', async () => {
  const random = createRandom(13);
  const sum = createFactorSum([1, 20], [20, 1], createOnnxRuntimeProducts());
  const parts = Array.from({ length: 3 }, () => ({ weight: 1, ...randomLayer('m', [20, 20], 9, 1, random) }));
  await sum.add(parts[0]!);
  await sum.add(parts[1]!);
  const adding = sum.add(parts[2]!);
  expect(adding).toBeInstanceOf(Promise);
  expect(() => sum.add(parts[0]!)).toThrow('wait for add()');
  expect(() => sum.toPart()).toThrow('wait for add()');
  await adding;
  expect(sum.toPart().a.dims).toEqual([20, 20]);
});

it('products whose session does not start fail: loops never take their place unseen', async () => {
  const products = createOnnxRuntimeProducts();
  const refusal = vi.spyOn(InferenceSession, 'create').mockRejectedValue(new Error('no session'));
  try {
    const [x, y] = [randomMatrix(60, 60, 1), randomMatrix(60, 60, 2)];
    await expect(products.multiply(x, y)).rejects.toThrow('no session');
  } finally {
    refusal.mockRestore();
  }
});

it('a released matrix is empty', () => {
  const matrix = randomMatrix(3, 3, 1);
  releaseMatrix(matrix);
  expect(matrix.data).toHaveLength(0);
});

function denseOf({ weight, scale, a, b }: FactorPart): Matrix {
  const r = a.dims[0]!;
  const left = Matrix.from1DArray(b.dims[0]!, r, [...b.data]);
  return left.mmul(Matrix.from1DArray(r, a.data.length / r, [...a.data])).mul(weight * scale);
}
