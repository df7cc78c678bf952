/**
 * Exact sums of low-rank products. Σ w·s·B·A over sites is kept as stacked factors and cut to a rank by
 * QR of both sides and an SVD of the small core; docs/method.md derives it. All sums are in float64.
 */
import { Matrix, SVD } from 'ml-matrix';
import { AppError } from '../shared/errors.ts';
import { createRandom, type Random } from '../shared/random.ts';
import { elementCount, type FloatTensor, floatTensor, sameDims } from '../shared/tensor.ts';
import { householderQr } from './householder.ts';
import type { LoraLayer } from './model-state.ts';

/** weight·scale·B·A with the shapes of {@link LoraLayer}. */
export interface FactorPart {
  readonly weight: number;
  readonly scale: number;
  readonly a: FloatTensor;
  readonly b: FloatTensor;
}

export interface TruncatedFactors {
  /** ΔW = scale·B·A with the scale asked for. */
  readonly a: FloatTensor;
  readonly b: FloatTensor;
  /** Squared Frobenius norm of ΔW before and after cutting. */
  readonly energy: number;
  readonly keptEnergy: number;
  /** `keptEnergy / energy`; 1 for ΔW = 0. */
  readonly energyKept: number;
}

/** A running sum of one layer over any number of sites. */
export interface FactorSum {
  /** @throws AppError SHAPE_MISMATCH when the part belongs to a layer of another shape */
  add(part: FactorPart): void;
  /** The sum itself, uncut, as one part of weight and scale 1 (float32): partial sums merge by `add`. */
  toPart(): FactorPart;
  /**
   * The best approximation of sum/divisor of rank min(rank, out, in) (Eckart and Young), split evenly:
   * both factors carry √singular value. A direction of no size gets a random A row and a zero B column,
   * which leaves ΔW as it is and can still learn.
   * @param scale s > 0 of the result's ΔW = s·B·A
   * @throws AppError UPDATE_REJECTED when the sum is not finite
   */
  truncate(rank: number, scale: number, options: { seed: number; divisor?: number }): TruncatedFactors;
}

/** Below this share of the largest singular value a direction is rounding noise of float32 factors. */
const noiseShare = 2 ** -24;

/** Largest rank that a product of this shape can have. */
export function rankLimit(aDims: readonly number[], bDims: readonly number[]): number {
  return Math.min(bDims[0]!, elementCount(aDims.slice(1)));
}

/**
 * An empty sum for a layer with factors of these shapes (their own rank does not matter).
 * Memory is at most 2·out·in values however many parts are added: while the stacked rank is below
 * min(out, in) the factors are kept, beyond that the product itself is the smaller of the two.
 */
export function createFactorSum(aDims: readonly number[], bDims: readonly number[]): FactorSum {
  const inDims = aDims.slice(1);
  const bTail = bDims.slice(2);
  const rows = bDims[0]!;
  const cols = elementCount(inDims);
  const limit = Math.min(rows, cols);
  /** Columns of B (times weight and scale) and rows of A. */
  let left: Float64Array[] = [];
  let right: Float64Array[] = [];
  /** Rows of the sum, once the stack would be larger than that. */
  let full: readonly Float64Array[] | null = null;

  function add({ weight, scale, a, b }: FactorPart): void {
    const r = a.dims[0]!;
    const fits = sameDims(a.dims, [r, ...inDims]) && sameDims(b.dims, [rows, r, ...bTail]);
    if (!fits) {
      throw new AppError(
        'SHAPE_MISMATCH',
        `LoRA factors of shapes [${a.dims.join(', ')}] and [${b.dims.join(', ')}] do not fit a layer ` +
          `of ${rows} outputs and [${inDims.join(', ')}] inputs.`,
      );
    }
    for (let k = 0; k < r; k++) {
      const column = Float64Array.from({ length: rows }, (_, i) => weight * scale * b.data[i * r + k]!);
      const row = Float64Array.from(a.data.subarray(k * cols, (k + 1) * cols));
      if (full !== null) addProduct(full, column, row);
      else {
        left.push(column);
        right.push(row);
      }
    }
    if (left.length > limit) spillToFull();
  }

  function spillToFull(): void {
    const sum: Float64Array[] = Array.from({ length: rows }, () => new Float64Array(cols));
    left.forEach((column, k) => {
      addProduct(sum, column, right[k]!);
    });
    full = sum;
    left = [];
    right = [];
  }

  /** Left and right vectors whose products make up the sum; at most `limit` of them, not shared. */
  function vectors(): { left: Float64Array[]; right: Float64Array[] } {
    if (full === null) return { left: left.map(copy), right: right.map(copy) };
    if (rows <= cols) return { left: unitVectors(rows), right: full.map(copy) };
    return { left: transpose(full), right: unitVectors(cols) };
  }

  return {
    add,
    toPart() {
      const stack = vectors();
      const r = stack.left.length;
      return { weight: 1, scale: 1, a: toA(stack.right, r, inDims), b: toB(stack.left, r, rows, bTail) };
    },
    truncate(rank, scale, { seed, divisor = 1 }) {
      const r = Math.min(rank, limit);
      const { u, v, sizes } = decompose(vectors());
      const sigma = sizes.map((size) => size / divisor);
      const kept = sigma.slice(0, r).filter((size) => size > noiseShare * sigma[0]!);
      const half = kept.map((size) => Math.sqrt(size / scale));
      const a: Float64Array[] = half.map((factor, k) => scaled(v(k), factor));
      const random = createRandom(seed);
      while (a.length < r) a.push(freshRow(cols, random));
      const b = half.map((factor, k) => scaled(u(k), factor));
      const energy = sumOfSquares(sigma);
      const keptEnergy = sumOfSquares(kept);
      return {
        a: toA(a, r, inDims),
        b: toB(b, r, rows, bTail),
        energy,
        keptEnergy,
        energyKept: energy === 0 ? 1 : Math.min(1, keptEnergy / energy),
      };
    },
  };
}

/**
 * Σ weight·scale·B·A of one layer, cut to `rank`; see {@link FactorSum.truncate}.
 * @param parts at least one; ranks and scales may differ
 */
export function stackAndTruncate(
  parts: readonly FactorPart[],
  rank: number,
  scale: number,
  options: { seed: number },
): TruncatedFactors {
  const first = parts[0];
  if (first === undefined) throw new RangeError('nothing to add up');
  const sum = createFactorSum(first.a.dims, first.b.dims);
  for (const part of parts) sum.add(part);
  return sum.truncate(rank, scale, options);
}

/** The layer at another rank: the best approximation when it shrinks, the same ΔW when it grows. */
export function changeRank(layer: LoraLayer, rank: number, seed: number): LoraLayer {
  const { a, b } = stackAndTruncate([{ weight: 1, ...layer }], rank, layer.scale, { seed });
  return { ...layer, r: a.dims[0]!, a, b };
}

/** The layer with another scale and the same ΔW. @param scale > 0 */
export function changeScale(layer: LoraLayer, scale: number): LoraLayer {
  const ratio = layer.scale / scale;
  return {
    ...layer,
    scale,
    b: floatTensor(
      layer.b.dims,
      layer.b.data.map((value) => value * ratio),
    ),
  };
}

/** ΔW = s·B·A as a matrix of the layer's weight: [out, in] or [out, in, kh, kw]. */
export function deltaWeight(layer: LoraLayer): FloatTensor {
  const { dims, values } = exactDelta(layer);
  return floatTensor(dims, Float32Array.from(values));
}

/** {@link deltaWeight} before rounding to float32. */
export function exactDelta(layer: LoraLayer): { dims: number[]; values: Float64Array } {
  const { a, b, r, scale } = layer;
  const [rows, inDims] = [b.dims[0]!, a.dims.slice(1)];
  const cols = elementCount(inDims);
  const delta = new Float64Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    const row = delta.subarray(i * cols, (i + 1) * cols);
    for (let k = 0; k < r; k++)
      addScaled(row, scale * b.data[i * r + k]!, a.data.subarray(k * cols, (k + 1) * cols));
  }
  return { dims: [rows, ...inDims], values: delta };
}

/** Frobenius norm of Σ weight·scale·B·A without forming it: ‖BA‖² is the sum over (BᵀB)∘(AAᵀ). */
export function productNorm(parts: readonly FactorPart[]): number {
  const first = parts[0];
  if (first === undefined) return 0;
  const columns: Float64Array[] = [];
  const rows: Float64Array[] = [];
  for (const { weight, scale, a, b } of parts) {
    const r = a.dims[0]!;
    const cols = elementCount(a.dims.slice(1));
    for (let k = 0; k < r; k++) {
      columns.push(Float64Array.from({ length: b.dims[0]! }, (_, i) => weight * scale * b.data[i * r + k]!));
      rows.push(Float64Array.from(a.data.subarray(k * cols, (k + 1) * cols)));
    }
  }
  let sum = 0;
  for (let i = 0; i < rows.length; i++) {
    for (let j = 0; j <= i; j++) {
      sum += (i === j ? 1 : 2) * dot(columns[i]!, columns[j]!) * dot(rows[i]!, rows[j]!);
    }
  }
  return Math.sqrt(Math.max(0, sum));
}

/** SVD of Σ left[k]·right[k]ᵀ; singular values from large to small, vectors made when asked for. */
function decompose(stack: { left: Float64Array[]; right: Float64Array[] }): {
  sizes: number[];
  u(k: number): Float64Array;
  v(k: number): Float64Array;
} {
  const count = stack.left.length;
  const none = () => {
    throw new RangeError('a sum of nothing has no singular vectors');
  };
  if (count === 0) return { sizes: [], u: none, v: none };
  const qrLeft = householderQr(stack.left);
  const qrRight = householderQr(stack.right);
  const core = new Matrix(count, count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      let sum = 0;
      // Both triangles are upper: entries left of the diagonal are zero.
      for (let k = Math.max(i, j); k < count; k++) sum += qrLeft.r[k]![i]! * qrRight.r[k]![j]!;
      if (!Number.isFinite(sum)) {
        throw new AppError('UPDATE_REJECTED', 'The LoRA factors hold values that are not finite numbers.');
      }
      core.set(i, j, sum);
    }
  }
  const svd = new SVD(core);
  const { leftSingularVectors, rightSingularVectors } = svd;
  return {
    sizes: svd.diagonal,
    u: (k) => qrLeft.applyQ(Float64Array.from(leftSingularVectors.getColumn(k))),
    v: (k) => qrRight.applyQ(Float64Array.from(rightSingularVectors.getColumn(k))),
  };
}

function toA(vectors: readonly Float64Array[], r: number, inDims: readonly number[]): FloatTensor {
  const cols = elementCount(inDims);
  const data = new Float32Array(r * cols);
  vectors.forEach((row, k) => {
    data.set(row, k * cols);
  });
  return floatTensor([r, ...inDims], data);
}

function toB(
  vectors: readonly Float64Array[],
  r: number,
  rows: number,
  bTail: readonly number[],
): FloatTensor {
  const data = new Float32Array(rows * r);
  vectors.forEach((column, k) => {
    for (let i = 0; i < rows; i++) data[i * r + k] = column[i]!;
  });
  return floatTensor([rows, r, ...bTail], data);
}

/** As PEFT starts A: uniform in ±1/√fan_in. */
function freshRow(cols: number, random: Random): Float64Array {
  const bound = 1 / Math.sqrt(cols);
  return Float64Array.from({ length: cols }, () => (2 * random.uniform() - 1) * bound);
}

function addProduct(sum: readonly Float64Array[], column: Float64Array, row: Float64Array): void {
  for (let i = 0; i < column.length; i++) addScaled(sum[i]!, column[i]!, row);
}

function addScaled(target: Float64Array, factor: number, values: Float64Array | Float32Array): void {
  for (let j = 0; j < target.length; j++) target[j]! += factor * values[j]!;
}

function unitVectors(size: number): Float64Array[] {
  return Array.from({ length: size }, (_, i) => {
    const vector = new Float64Array(size);
    vector[i] = 1;
    return vector;
  });
}

function transpose(rows: readonly Float64Array[]): Float64Array[] {
  const width = rows[0]?.length ?? 0;
  return Array.from({ length: width }, (_, j) => Float64Array.from(rows, (row) => row[j]!));
}

const copy = (vector: Float64Array) => vector.slice();
const scaled = (vector: Float64Array, factor: number) => vector.map((value) => value * factor);
const sumOfSquares = (values: readonly number[]) => values.reduce((sum, value) => sum + value * value, 0);
function dot(x: Float64Array, y: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}
