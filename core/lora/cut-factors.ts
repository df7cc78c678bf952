/** From singular values and their directions to a layer's factors of some rank. */
import type { SingularVectors } from '../linalg/small-core.ts';
import { createRandom } from '../shared/random.ts';
import { elementCount, type FloatTensor, floatTensor } from '../shared/tensor.ts';

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

/** Shape of a layer's factors beside their rank: A is [r, ...inDims], B [rows, r, ...bTail]. */
export interface FactorShape {
  readonly inDims: readonly number[];
  readonly rows: number;
  readonly bTail: readonly number[];
}

/** A row of A for the k-th direction, which has no size; of a length of about {@link freshRowLength}. */
export type FreshRow = (k: number) => Float64Array;

/** Below this share of the largest singular value a direction is rounding noise of float32 factors. */
const noiseShare = 2 ** -24;

/** Root mean square of the length of a row as PEFT starts A, for any number of columns. */
export const freshRowLength = 1 / Math.sqrt(3);

/** Rows as PEFT starts A: uniform in ±1/√fan_in. Call it for one direction after the other. */
export function randomRows(inDims: readonly number[], seed: number): FreshRow {
  const random = createRandom(seed);
  const cols = elementCount(inDims);
  const bound = 1 / Math.sqrt(cols);
  return () => Float64Array.from({ length: cols }, () => (2 * random.uniform() - 1) * bound);
}

export interface CutShape {
  rank: number;
  /** s of the result's ΔW = s·B·A. */
  scale: number;
  /** What the directions found are divided by; 1 by default. */
  divisor?: number;
  /** Length of a row of A that carries a direction of size σ / s with its column of B. */
  rowLength: (size: number) => number;
  freshRow: FreshRow;
}

/** Both factors carry √(σ / s), but a row of A is never shorter than a fresh one (docs/method.md, "The split"). */
export const evenSplit = (size: number): number => Math.max(Math.sqrt(size), freshRowLength);

/**
 * The `rank` largest of the directions found, divided.
 * @param wholeEnergy of all directions, not divided
 */
export function cutFactors(
  found: SingularVectors,
  wholeEnergy: number,
  shape: FactorShape,
  { rank, scale, divisor = 1, rowLength, freshRow }: CutShape,
): TruncatedFactors {
  const kept = sizesAboveNoise(found, rank, divisor);
  const lengths = kept.map((size) => rowLength(size / scale));
  const a = lengths.map((length, k) => scaled(found.v(k), length));
  while (a.length < rank) a.push(freshRow(a.length));
  const b = lengths.map((length, k) => scaled(found.u(k), kept[k]! / scale / length));
  const energy = wholeEnergy / divisor ** 2;
  const keptEnergy = sumOfSquares(kept);
  return {
    ...factorsOfVectors(a, b, rank, shape),
    energy,
    keptEnergy,
    energyKept: energy === 0 ? 1 : Math.min(1, keptEnergy / energy),
  };
}

/** Of the first `count` singular values, divided; they stand from large to small. */
export function sizesAboveNoise({ sizes }: SingularVectors, count: number, divisor: number): number[] {
  const divided = sizes.slice(0, count).map((size) => size / divisor);
  return divided.filter((size) => size > noiseShare * divided[0]!);
}

/** Rows of A and columns of B as the factors of a layer of rank `r`; zeros where there are fewer. */
export function factorsOfVectors(
  rowsOfA: readonly Float64Array[],
  columnsOfB: readonly Float64Array[],
  r: number,
  { inDims, rows, bTail }: FactorShape,
): { a: FloatTensor; b: FloatTensor } {
  const cols = elementCount(inDims);
  const a = new Float32Array(r * cols);
  rowsOfA.forEach((row, k) => {
    a.set(row, k * cols);
  });
  const b = new Float32Array(rows * r);
  columnsOfB.forEach((column, k) => {
    for (let i = 0; i < rows; i++) b[i * r + k] = column[i]!;
  });
  return { a: floatTensor([r, ...inDims], a), b: floatTensor([rows, r, ...bTail], b) };
}

export const scaled = (vector: Float64Array, factor: number): Float64Array =>
  vector.map((value) => value * factor);
export const sumOfSquares = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value * value, 0);
