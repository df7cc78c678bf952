/** Factors of one layer on top of each other, blocks cut out of them, and zeros to fill them up. */
import { elementCount, type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { type LoraLayer, shapesAtRank } from './model-state.ts';

/** With the shapes of a {@link LoraLayer}'s. */
export interface Factors {
  readonly a: FloatTensor;
  readonly b: FloatTensor;
}

export interface StackPart {
  readonly factors: Factors;
  /** By which its product counts. */
  readonly weight: number;
  /** From which row of the stack's B its outputs lie; 0 by default. */
  readonly rowStart?: number;
}

/**
 * [A₁; A₂; …] and [w₁·B₁ | w₂·B₂ | …], whose product is Σ w·B·A exactly, but for the rounding of w·B.
 * @param rows of the stack's B, zeros outside a part's own outputs; those of the first part by default
 */
export function stackFactors(parts: readonly StackPart[], rows?: number): Factors {
  const [first] = parts;
  if (first === undefined) throw new RangeError('there are no factors to stack');
  const r = parts.reduce((sum, { factors }) => sum + factors.a.dims[0]!, 0);
  const shapes = shapesAtRank(first.factors, r);
  const [ownRows = 0, ...bTail] = shapes.b.dims;
  const a = floatTensor(shapes.a.dims);
  const b = floatTensor([rows ?? ownRows, ...bTail]);
  const width = elementCount(a.dims.slice(1));
  let rankStart = 0;
  for (const { factors, weight, rowStart = 0 } of parts) {
    const own = factors.a.dims[0]!;
    a.data.set(factors.a.data, rankStart * width);
    for (let row = 0; row < factors.b.dims[0]!; row++) {
      const at = (rowStart + row) * r + rankStart;
      for (let k = 0; k < own; k++) b.data[at + k] = weight * factors.b.data[row * own + k]!;
    }
    rankStart += own;
  }
  return { a, b };
}

/** A block of factors: rows of A and the same columns of B, for some of the outputs. */
export interface FactorBlock {
  readonly rankStart: number;
  readonly r: number;
  readonly rowStart: number;
  readonly rows: number;
}

/** A copy of the block, which lies inside the factors. */
export function sliceFactors({ a, b }: Factors, { rankStart, r, rowStart, rows }: FactorBlock): Factors {
  const [whole = 0, ...inDims] = a.dims;
  const [, , ...bTail] = b.dims;
  const width = elementCount(inDims);
  const slice = floatTensor([rows, r, ...bTail]);
  for (let row = 0; row < rows; row++) {
    const from = (rowStart + row) * whole + rankStart;
    slice.data.set(b.data.subarray(from, from + r), row * r);
  }
  return {
    a: floatTensor([r, ...inDims], a.data.slice(rankStart * width, (rankStart + r) * width)),
    b: slice,
  };
}

/**
 * The first `r` rows of A and columns of B with the same scale, as HetLoRA cuts (Cho et al. 2024, arXiv 2401.06432).
 * The layer itself when it has no more. After an exact aggregation the components stand in the order of their size,
 * so that this keeps the largest ones.
 */
export function cutLayer(layer: LoraLayer, r: number): LoraLayer {
  if (layer.r <= r) return layer;
  return { ...layer, r, ...sliceFactors(layer, { rankStart: 0, r, rowStart: 0, rows: layer.b.dims[0]! }) };
}

/** The layer with zeros as further rows of A and columns of B, up to rank `r`; itself when it has as many. */
export function padLayer(layer: LoraLayer, r: number): LoraLayer {
  if (layer.r >= r) return layer;
  const shapes = shapesAtRank(layer, r);
  const [a, b] = [floatTensor(shapes.a.dims), floatTensor(shapes.b.dims)];
  a.data.set(layer.a.data);
  for (let row = 0; row < b.dims[0]!; row++)
    b.data.set(layer.b.data.subarray(row * layer.r, (row + 1) * layer.r), row * r);
  return { ...layer, r, a, b };
}

/**
 * The factors without the directions whose column of B is all zero, which change nothing: what is left of a stacked
 * module's factors in one of its parts. Null when nothing is left.
 */
export function dropZeroColumns(factors: Factors): Factors | null {
  const [rows = 0, r = 0] = factors.b.dims;
  const kept = Array.from({ length: r }, (_, k) => k).filter((k) => {
    for (let row = 0; row < rows; row++) if (factors.b.data[row * r + k] !== 0) return true;
    return false;
  });
  if (kept.length === 0) return null;
  const columns = kept.map((k) => sliceFactors(factors, { rankStart: k, r: 1, rowStart: 0, rows }));
  return stackFactors(columns.map((column) => ({ factors: column, weight: 1 })));
}
