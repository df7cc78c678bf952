/**
 * Exact sums of low-rank products. Σ w·s·B·A over sites is kept as stacked factors, or as the product itself where
 * that is smaller, and cut to a rank by its singular values; docs/method.md derives it. All sums are in float64.
 */
import { leadingDirections } from '../linalg/leading-directions.ts';
import { createPlainProducts, type DenseMatrix, type MatrixProducts } from '../linalg/matrix-products.ts';
import { decomposeStack, type SingularVectors } from '../linalg/small-core.ts';
import { AppError } from '../shared/errors.ts';
import { elementCount, type FloatTensor, sameDims } from '../shared/tensor.ts';
import { plural } from '../shared/text.ts';
import {
  cutFactors,
  evenSplit,
  type FactorShape,
  factorsOfVectors,
  randomRows,
  scaled,
  sizesAboveNoise,
  sumOfSquares,
  type TruncatedFactors,
} from './cut-factors.ts';
import { createFactorStore } from './factor-store.ts';

/** weight·scale·B·A with the shapes of a LoRA layer's factors. */
export interface FactorPart {
  readonly weight: number;
  readonly scale: number;
  readonly a: FloatTensor;
  readonly b: FloatTensor;
}

export interface CutOptions {
  /** Of the random rows of A for directions of no size. */
  seed: number;
  /** What the sum is divided by, such as the sum of the weights; 1 by default. */
  divisor?: number;
}

/** The largest singular values of a sum, with their directions. */
export interface Decomposition {
  /** From large to small, not divided by anything; as many as were asked for, or all that the sum has. */
  readonly sizes: readonly number[];
  /** Squared Frobenius norm of the whole sum: of all its singular values, also those that were not asked for. */
  readonly energy: number;
  /**
   * The best approximation of sum/divisor of rank min(rank, out, in) (Eckart and Young). Both factors carry
   * √(singular value / scale), but a row of A is never shorter than a fresh one: short rows would train more slowly from
   * round to round (docs/method.md). A direction of no size gets a random A row and a zero B column, which leaves ΔW as
   * it is and can still learn. Any number of cuts may be made.
   * @param scale s > 0 of the result's ΔW = s·B·A
   * @throws RangeError for a rank above the `maxRank` of the decomposition
   */
  cut(rank: number, scale: number, options: CutOptions): TruncatedFactors;
  /**
   * The directions from number `first` (0-based) to before `end` of sum/divisor, as factors of scale 1 and rank
   * `end − first`, split evenly; those of no size are zeros. `energy` is the squared norm of their product.
   * @throws RangeError for an end above the `maxRank` of the decomposition
   */
  slice(first: number, end: number, divisor?: number): Pick<TruncatedFactors, 'a' | 'b' | 'energy'>;
}

/** A running sum of one layer over any number of sites. */
export interface FactorSum {
  /**
   * Adds a part, whose values are copied. A promise when there is something to compute first; wait for it before the
   * next call.
   * @throws AppError SHAPE_MISMATCH when the part belongs to a layer of another shape
   */
  add(part: FactorPart): Promise<void> | void;
  /** The sum itself, uncut, as one part of weight and scale 1 (float32): partial sums merge by `add`. */
  toPart(): FactorPart;
  /** ⟨sum, weight·scale·B·A⟩: the inner product with another product of the same shape, as of long vectors. */
  innerProduct(part: FactorPart): Promise<number>;
  /**
   * The `maxRank` largest singular values and their directions; the sum itself stays as it is.
   * @throws AppError UPDATE_REJECTED when the sum is not finite
   */
  decompose(maxRank: number): Promise<Decomposition>;
  /**
   * `decompose` and `cut` in one, at once and by way of all singular values: for small layers.
   * @throws AppError UPDATE_REJECTED when the sum is not finite
   */
  truncate(rank: number, scale: number, options: CutOptions): TruncatedFactors;
}

/**
 * An empty sum for a layer with factors of these shapes (their own rank does not matter). Memory does not
 * grow with the number of parts: at most out·in float64 and 128·(out + in) float32 values: few factors are stacked, many are multiplied block by block.
 * @param products multiplies the blocks; null: plain loops, and `add` is done when it returns
 */
export function createFactorSum(
  aDims: readonly number[],
  bDims: readonly number[],
  products: MatrixProducts | null = null,
): FactorSum {
  const inDims = aDims.slice(1);
  const bTail = bDims.slice(2);
  const rows = bDims[0]!;
  const cols = elementCount(inDims);
  const limit = Math.min(rows, cols);
  const shape = { inDims, rows, bTail };
  const store = createFactorStore(rows, cols, products);

  function decomposition(found: SingularVectors, energy: number, maxRank: number): Decomposition {
    function requireFound(rank: number): void {
      if (rank > maxRank) throw new RangeError(`cannot cut to rank ${rank}: ${maxRank} were decomposed`);
    }
    return {
      sizes: found.sizes.slice(0, maxRank),
      energy,
      cut(rank, scale, { seed, divisor = 1 }) {
        requireFound(rank);
        const cut = { rank: Math.min(rank, limit), scale, divisor, rowLength: evenSplit };
        return cutFactors(found, energy, shape, { ...cut, freshRow: randomRows(inDims, seed) });
      },
      slice(first, end, divisor = 1) {
        requireFound(end);
        const kept = sizesAboveNoise(found, end, divisor).slice(first);
        const half = kept.map(Math.sqrt);
        const a = half.map((factor, k) => scaled(found.v(first + k), factor));
        const b = half.map((factor, k) => scaled(found.u(first + k), factor));
        return { ...factorsOfVectors(a, b, end - first, shape), energy: sumOfSquares(kept) };
      },
    };
  }

  return {
    add(part) {
      checkPart(part, shape);
      return store.add(part.weight * part.scale, part.a.data, part.b.data, part.a.dims[0]!);
    },
    toPart() {
      const { left, right } = store.vectors();
      return { weight: 1, scale: 1, ...factorsOfVectors(right, left, left.length, shape) };
    },
    innerProduct(part) {
      checkPart(part, shape);
      return store.innerProduct(part.weight * part.scale, part.a.data, part.b.data, part.a.dims[0]!);
    },
    async decompose(maxRank) {
      const wanted = Math.min(maxRank, limit);
      if (store.isBetterWhole(wanted)) {
        const find = (whole: DenseMatrix) =>
          leadingDirections(whole, wanted, products ?? createPlainProducts());
        const found = await store.withMatrix(find);
        if (found !== null) return decomposition(found.vectors, found.energy, maxRank);
      }
      const found = decomposeStack(store.vectors());
      return decomposition(found, sumOfSquares(found.sizes), maxRank);
    },
    truncate(rank, scale, options) {
      const found = decomposeStack(store.vectors());
      return decomposition(found, sumOfSquares(found.sizes), rank).cut(rank, scale, options);
    },
  };
}

function checkPart({ a, b }: FactorPart, { rows, inDims, bTail }: FactorShape): void {
  const r = a.dims[0]!;
  if (sameDims(a.dims, [r, ...inDims]) && sameDims(b.dims, [rows, r, ...bTail])) return;
  throw new AppError(
    'SHAPE_MISMATCH',
    `LoRA factors of shapes [${a.dims.join(', ')}] and [${b.dims.join(', ')}] do not match a layer ` +
      `of ${plural(rows, 'output')} and [${inDims.join(', ')}] inputs.`,
  );
}
