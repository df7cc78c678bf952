/** Singular value decomposition of a sum of few products u·vᵀ: QR of both sides and an SVD of the small core. */
import { Matrix, SVD } from 'ml-matrix';
import { AppError } from '../shared/errors.ts';
import { householderQr } from './householder.ts';

/** Σ left[k]·right[k]ᵀ; as many vectors on both sides, at most as many as either is long. */
export interface VectorStack {
  readonly left: readonly Float64Array[];
  readonly right: readonly Float64Array[];
}

export interface SingularVectors {
  /** Singular values from large to small. */
  readonly sizes: readonly number[];
  /** Unit vectors of the k-th singular value, made when asked for. */
  u(k: number): Float64Array;
  v(k: number): Float64Array;
}

/**
 * All singular values and vectors of a stack, whose vectors are overwritten.
 * @throws AppError UPDATE_REJECTED when the stack is not finite
 */
export function decomposeStack(stack: VectorStack): SingularVectors {
  const count = stack.left.length;
  if (count === 0) {
    const none = () => {
      throw new RangeError('a sum of nothing has no singular vectors');
    };
    return { sizes: [], u: none, v: none };
  }
  const qrLeft = householderQr(stack.left);
  const qrRight = householderQr(stack.right);
  const core = new Matrix(count, count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      let sum = 0;
      // Both triangles are upper: entries left of the diagonal are zero.
      for (let k = Math.max(i, j); k < count; k++) sum += qrLeft.r[k]![i]! * qrRight.r[k]![j]!;
      if (!Number.isFinite(sum)) throw notFinite();
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

export function notFinite(): AppError {
  return new AppError('UPDATE_REJECTED', 'The LoRA factors hold values that are not finite numbers.');
}
