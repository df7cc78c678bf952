import { Matrix, SVD } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import { leadingDirections } from '../../core/linalg/leading-directions.ts';
import { createPlainProducts, type DenseMatrix } from '../../core/linalg/matrix-products.ts';
import type { SingularVectors } from '../../core/linalg/small-core.ts';
import { createRandom } from '../../core/shared/random.ts';

const products = createPlainProducts();
const [rows, cols] = [150, 130];

/** Columns that are orthonormal. */
function orthonormal(length: number, count: number, seed: number): Matrix {
  const random = createRandom(seed);
  const columns: number[][] = [];
  while (columns.length < count) {
    const column = Array.from({ length }, () => random.normal());
    // Twice, for rounding.
    for (let time = 0; time < 2; time++) {
      for (const other of columns) {
        const along = column.reduce((sum, value, i) => sum + value * other[i]!, 0);
        other.forEach((value, i) => {
          column[i]! -= along * value;
        });
      }
    }
    const norm = Math.hypot(...column);
    columns.push(column.map((value) => value / norm));
  }
  return new Matrix(columns).transpose();
}
const [left, right] = [orthonormal(rows, cols, 1), orthonormal(cols, cols, 2)];

/** A matrix whose singular values are known. */
function withSizes(sizeAt: (k: number) => number): { matrix: Matrix; sizes: number[] } {
  const sizes = Array.from({ length: cols }, (_, k) => sizeAt(k));
  return { matrix: left.mmul(Matrix.diag(sizes)).mmul(right.transpose()), sizes };
}
const toDense = (matrix: Matrix): DenseMatrix => ({
  rows: matrix.rows,
  cols: matrix.columns,
  data: Float64Array.from(matrix.to1DArray()),
});
const energyOf = (sizes: readonly number[]) => sizes.reduce((sum, size) => sum + size * size, 0);

/** Σ σ·u·vᵀ of the first directions. */
function approximation({ sizes, u, v }: SingularVectors, rank: number, [m, n] = [rows, cols]): Matrix {
  const result = Matrix.zeros(m!, n!);
  for (let k = 0; k < Math.min(rank, sizes.length); k++) {
    result.add(
      Matrix.columnVector([...u(k)])
        .mmul(Matrix.rowVector([...v(k)]))
        .mul(sizes[k]!),
    );
  }
  return result;
}

const random = createRandom(3);
const noise = Array.from({ length: cols }, () => random.uniform());
const spectra: Record<string, (k: number) => number> = {
  'falls by halves': (k) => 2 ** -k,
  'falls slowly': (k) => 1 / (1 + 0.05 * k),
  'falls with a power': (k) => (1 + k) ** -1.5,
  'is flat with noise': (k) => 1 + 0.2 * noise[k]!,
  'has clusters': (k) => [5, 3, 1, 0.1][Math.floor(k / 10)] ?? 0.01,
  'has a cluster across the cut': (k) => (k < 6 ? 4 : k < 25 ? 2 : 0.3),
  'is all equal': () => 3,
  'has rank five': (k) => (k < 5 ? 5 - k : 0),
  'has rank one': (k) => (k === 0 ? 1e-12 : 0),
  'is huge': (k) => 1e60 / (1 + k),
};

describe('leading singular values', () => {
  for (const [name, sizeAt] of Object.entries(spectra)) {
    it(`keeps what the best approximation keeps where the spectrum ${name}`, async () => {
      const { matrix, sizes } = withSizes(sizeAt);
      const wanted = 12;

      const found = (await leadingDirections(toDense(matrix), wanted, products))!;

      const best = [...sizes].sort((x, y) => y - x);
      const total = energyOf(sizes);
      expect(found.energy / total).toBeCloseTo(1, 10);
      const kept = energyOf(found.vectors.sizes.slice(0, wanted));
      expect(Math.abs(kept / energyOf(best.slice(0, wanted)) - 1)).toBeLessThan(1e-6);
      // No approximation of this rank is nearer (Eckart and Young); where singular values are equal there are many.
      const lost = Math.sqrt(energyOf(best.slice(wanted)));
      const error = Matrix.sub(matrix, approximation(found.vectors, wanted)).norm();
      expect(Math.abs(error - lost)).toBeLessThan(1e-6 * Math.sqrt(total));
      for (let k = 0; k < wanted; k++) {
        expect(Math.abs((found.vectors.sizes[k] ?? 0) - best[k]!)).toBeLessThan(1e-6 * best[0]!);
      }
    });
  }

  it('gives the very ΔW of the full decomposition where the cut falls in a gap', async () => {
    const { matrix } = withSizes((k) => (k < 12 ? 3 - 0.1 * k : 1 - 0.001 * k));
    const full = new SVD(matrix);
    const expected = approximation(
      {
        sizes: full.diagonal,
        u: (k) => Float64Array.from(full.leftSingularVectors.getColumn(k)),
        v: (k) => Float64Array.from(full.rightSingularVectors.getColumn(k)),
      },
      12,
    );
    for (const [source, dims] of [
      [matrix, [rows, cols]],
      [matrix.transpose(), [cols, rows]],
    ] as const) {
      const found = (await leadingDirections(toDense(source), 12, products))!;
      const ours = approximation(found.vectors, 12, [...dims]);
      const same = dims[0] === rows ? expected : expected.transpose();
      expect(Matrix.sub(ours, same).norm() / expected.norm()).toBeLessThan(1e-6);
    }
  });

  it('finds nothing in a matrix of zeros, and only the energy when nothing is wanted', async () => {
    const zeros = { rows, cols, data: new Float64Array(rows * cols) };
    expect(await leadingDirections(zeros, 5, products)).toMatchObject({ energy: 0, vectors: { sizes: [] } });
    const { matrix, sizes } = withSizes((k) => 1 / (1 + k));
    const found = await leadingDirections(toDense(matrix), 0, products);
    expect(found!.energy).toBeCloseTo(energyOf(sizes), 10);
  });

  it('leaves it to the full decomposition when most directions are wanted', async () => {
    const { matrix } = withSizes((k) => 1 / (1 + k));
    expect(await leadingDirections(toDense(matrix), 100, products)).toBeNull();
  });

  it('refuses what is not finite', async () => {
    const matrix = toDense(withSizes((k) => 1 / (1 + k)).matrix);
    matrix.data[17] = NaN;
    await expect(leadingDirections(matrix, 5, products)).rejects.toMatchObject({ code: 'UPDATE_REJECTED' });
  });

  it('gives the same bits each time, and the same numbers on ONNX Runtime', async () => {
    const dense = toDense(withSizes((k) => 1 / (1 + 0.1 * k)).matrix);
    const once = (await leadingDirections(dense, 12, products))!;
    const again = (await leadingDirections(dense, 12, products))!;
    const fast = (await leadingDirections(dense, 12, createOnnxRuntimeProducts()))!;
    expect(again.vectors.sizes).toEqual(once.vectors.sizes);
    expect([...again.vectors.u(3)]).toEqual([...once.vectors.u(3)]);
    for (let k = 0; k < 12; k++) expect(fast.vectors.sizes[k]).toBeCloseTo(once.vectors.sizes[k]!, 6);
  });
});
