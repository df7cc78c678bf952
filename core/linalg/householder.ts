/**
 * QR by Householder reflections on a list of column vectors (Golub and Van Loan, Matrix Computations, 5.2).
 * Own code because the factors are tall lists of vectors that are taken over in place: no copy into a
 * matrix class, and Q is applied to the few kept columns without ever being formed.
 */

export interface HouseholderQr {
  /** Upper triangle by columns: `r[j][i]` is entry (i, j); zero below the diagonal. */
  readonly r: readonly Float64Array[];
  /** Q·x for x given by its first `columns` coordinates (the rest being zero). Length: that of a column. */
  applyQ(x: Float64Array): Float64Array;
}

/**
 * Decomposes the matrix with these columns; at most as many as their length. The columns are overwritten.
 */
export function householderQr(columns: readonly Float64Array[]): HouseholderQr {
  const count = columns.length;
  const length = columns[0]?.length ?? 0;
  if (count > length) throw new RangeError(`QR needs at most ${length} columns, got ${count}`);
  /** 2 / (v·v) of each reflector v; 0 when the column needs none. v overwrites the column below its diagonal. */
  const factors = new Float64Array(count);
  const r: Float64Array[] = [];
  for (let k = 0; k < count; k++) {
    const column = columns[k]!;
    for (let j = 0; j < k; j++) reflect(columns[j]!, j, factors[j]!, column);
    const triangle = new Float64Array(count);
    triangle.set(column.subarray(0, k));
    triangle[k] = turnIntoReflector(column, k, factors);
    r.push(triangle);
  }
  return {
    r,
    applyQ(x) {
      const result = new Float64Array(length);
      result.set(x.subarray(0, count));
      for (let k = count - 1; k >= 0; k--) reflect(columns[k]!, k, factors[k]!, result);
      return result;
    },
  };
}

/** Overwrites column[k…] with the reflector that maps it onto its first axis; gives the diagonal entry. */
function turnIntoReflector(column: Float64Array, k: number, factors: Float64Array): number {
  let sum = 0;
  for (let i = k; i < column.length; i++) sum += column[i]! * column[i]!;
  if (sum === 0) return 0;
  const first = column[k]!;
  // The sign avoids cancellation in v = x − diagonal·e.
  const diagonal = first > 0 ? -Math.sqrt(sum) : Math.sqrt(sum);
  column[k] = first - diagonal;
  factors[k] = 1 / (sum - first * diagonal);
  return diagonal;
}

/** x ← x − factor·v·(v·x) over the coordinates from k on. */
function reflect(v: Float64Array, k: number, factor: number, x: Float64Array): void {
  if (factor === 0) return;
  let dot = 0;
  for (let i = k; i < x.length; i++) dot += v[i]! * x[i]!;
  dot *= factor;
  for (let i = k; i < x.length; i++) x[i]! -= dot * v[i]!;
}
