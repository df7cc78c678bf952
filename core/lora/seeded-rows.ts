/**
 * Factors A that both ends of a transfer know without sending them: rows drawn from a seed, and mixtures of such rows. A
 * layer whose A is fixed keeps to the space of its seeded rows; a cut to a lower rank rotates them within it, and the few
 * coefficients of the rotation stand for the whole factor.
 */
import { CholeskyDecomposition, Matrix } from 'ml-matrix';
import { decomposeStack } from '../linalg/small-core.ts';
import { mixSeed } from '../shared/random.ts';
import { elementCount, type FloatTensor, floatTensor } from '../shared/tensor.ts';
import {
  cutFactors,
  freshRowLength,
  randomRows,
  scaled,
  sumOfSquares,
  type TruncatedFactors,
} from './cut-factors.ts';
import type { LoraLayer } from './model-state.ts';

/**
 * A as it starts, [r, ...inDims]: Kaiming-uniform with a = √5 as in Hugging Face PEFT, that is uniform in ±1/√fan_in. A
 * lower rank gives the first rows of a higher one.
 */
export function drawSeededRows(
  seed: number,
  module: string,
  r: number,
  inDims: readonly number[],
): FloatTensor {
  const row = randomRows(inDims, mixSeed(seed, 'lora_A', module));
  const width = elementCount(inDims);
  const data = new Float32Array(r * width);
  for (let k = 0; k < r; k++) data.set(row(k), k * width);
  return floatTensor([r, ...inDims], data);
}

/**
 * M of A = M·rows, by least squares; exact but for rounding where the rows of A lie in the space of these. Normal
 * equations with one step of refinement: the rows are few, drawn at random, and so far from dependent.
 * @param a [r, ...inDims]
 * @param rows [R, ...inDims], linearly independent
 * @returns [r, R]
 */
export function coefficientsOf(a: FloatTensor, rows: FloatTensor): FloatTensor {
  const gram = new CholeskyDecomposition(productsOf(rows, rows));
  const first = gram.solve(productsOf(rows, a));
  const missing = { dims: a.dims, data: differenceOf(a, first, rows) };
  const found = Matrix.add(first, gram.solve(productsOf(rows, missing)));
  return floatTensor([a.dims[0]!, rows.dims[0]!], Float32Array.from(found.transpose().to1DArray()));
}

/** M·rows in float64, rounded once: the same bits wherever it is computed. @returns [r, ...inDims] */
export function combineRows(coefficients: FloatTensor, rows: FloatTensor): FloatTensor {
  const [r = 0, count = 0] = coefficients.dims;
  const [, ...inDims] = rows.dims;
  const width = elementCount(inDims);
  const data = new Float32Array(r * width);
  const sum = new Float64Array(width);
  for (let i = 0; i < r; i++) {
    sum.fill(0);
    for (let j = 0; j < count; j++) {
      const weight = coefficients.data[i * count + j]!;
      for (let x = 0; x < width; x++) sum[x]! += weight * rows.data[j * width + x]!;
    }
    data.set(sum, i * width);
  }
  return floatTensor([r, ...inDims], data);
}

/** A layer's own product by its singular values. */
export interface LayerDirections {
  /** As many as the layer's rank, from large to small. */
  readonly sizes: readonly number[];
  /** ‖ΔW‖². */
  readonly energy: number;
  /**
   * The best approximation of rank `rank` (Eckart and Young), whose rows of A are mixtures of the layer's own: also those
   * of directions of no size, which get a zero column of B. All rows are as long as drawn ones: they do not train, and
   * what a step or noise on B does to ΔW shall not depend on the cuts before it.
   * @param rank at most the layer's own
   */
  cut(rank: number, scale: number): TruncatedFactors;
}

/** @throws AppError UPDATE_REJECTED when a factor is not finite */
export function layerDirections({ r, scale, a, b }: LoraLayer): LayerDirections {
  const [, ...inDims] = a.dims;
  const [rows = 0, , ...bTail] = b.dims;
  const width = elementCount(inDims);
  const left = Array.from({ length: r }, (_, k) =>
    Float64Array.from({ length: rows }, (_value, i) => scale * b.data[i * r + k]!),
  );
  const right = Array.from({ length: r }, (_, k) =>
    Float64Array.from(a.data.subarray(k * width, (k + 1) * width)),
  );
  const found = decomposeStack({ left, right });
  const energy = sumOfSquares(found.sizes);
  return {
    sizes: found.sizes,
    energy,
    cut: (rank, wanted) =>
      cutFactors(
        found,
        energy,
        { inDims, rows, bTail },
        {
          rank,
          scale: wanted,
          rowLength: () => freshRowLength,
          freshRow: (k) => scaled(found.v(k), freshRowLength),
        },
      ),
  };
}

interface Rows {
  readonly dims: readonly number[];
  readonly data: ArrayLike<number>;
}

/** X·Yᵀ of rows in float64. */
function productsOf(x: Rows, y: Rows): Matrix {
  const width = elementCount(x.dims.slice(1));
  const products = new Matrix(x.dims[0]!, y.dims[0]!);
  for (let i = 0; i < products.rows; i++) {
    for (let j = 0; j < products.columns; j++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += x.data[i * width + k]! * y.data[j * width + k]!;
      products.set(i, j, sum);
    }
  }
  return products;
}

/** A − Mᵀ·rows in float64. @param coefficients Mᵀ, [R, r] */
function differenceOf(a: FloatTensor, coefficients: Matrix, rows: FloatTensor): Float64Array {
  const width = elementCount(a.dims.slice(1));
  const left = Float64Array.from(a.data);
  for (let i = 0; i < coefficients.columns; i++) {
    for (let j = 0; j < coefficients.rows; j++) {
      const weight = coefficients.get(j, i);
      for (let k = 0; k < width; k++) left[i * width + k]! -= weight * rows.data[j * width + k]!;
    }
  }
  return left;
}
