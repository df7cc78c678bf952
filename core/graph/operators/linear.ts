/** Matrix products. */
import { elementCount } from '../../shared/tensor.ts';
import { floatOf, integerOf } from '../attributes.ts';
import type { OperatorBuilder } from '../operator-builder.ts';
import {
  broadcastDims,
  type GradientRule,
  type InferenceRule,
  inputName,
  inputOf,
  mismatch,
  type OperatorRequest,
  type OperatorTable,
  optionalInput,
} from './operator.ts';
import { reshaped, scaled } from './shared-nodes.ts';

/** Batched; numpy's broadcasting of the leading axes. */
const inferMatMul: InferenceRule = (request) => {
  const [a, b] = [inputOf(request, 0), inputOf(request, 1)];
  if (a.dims.length < 2 || b.dims.length < 2 || a.dims.at(-1) !== b.dims.at(-2)) {
    throw mismatch(request, 'the inner sizes differ');
  }
  const leading = broadcastDims(a.dims.slice(0, -2), b.dims.slice(0, -2));
  if (leading === undefined) throw mismatch(request, 'the leading axes do not broadcast');
  return [{ dtype: a.dtype, dims: [...leading, a.dims.at(-2)!, b.dims.at(-1)!] }];
};

/** With a vector: it becomes a matrix of one row (left) or one column (right), whose axis then goes. */
function vectorMatMul(request: OperatorRequest): string[] | undefined {
  const { builder } = request;
  const [a, b] = [inputName(request, 0), inputName(request, 1)];
  const [leftRank, rightRank] = [builder.dimsOf(a).length, builder.dimsOf(b).length];
  if (leftRank !== 1 && rightRank !== 1) return undefined;
  if (leftRank === 0 || rightRank === 0) throw mismatch(request, 'a scalar has no product of matrices');
  const product = builder.matMul(
    leftRank === 1 ? builder.unsqueeze(a, [0]) : a,
    rightRank === 1 ? builder.unsqueeze(b, [1]) : b,
  );
  const gone = [...(leftRank === 1 ? [-2] : []), ...(rightRank === 1 ? [-1] : [])];
  return [builder.squeeze(product, gone)];
}

const inferGemm: InferenceRule = (request) => {
  const [a, b, c] = [inputOf(request, 0), inputOf(request, 1), optionalInput(request, 2)];
  if (a.dims.length !== 2 || b.dims.length !== 2) throw mismatch(request, 'it takes matrices');
  const [rows, inner] = integerOf(request.attributes, 'transA', 0) ? a.dims.toReversed() : a.dims;
  const [innerB, columns] = integerOf(request.attributes, 'transB', 0) ? b.dims.toReversed() : b.dims;
  if (inner !== innerB) throw mismatch(request, 'the inner sizes differ');
  const dims = [rows!, columns!];
  if (c !== undefined && broadcastDims(c.dims, dims)?.join() !== dims.join()) {
    throw mismatch(request, 'the summand does not broadcast to the product');
  }
  return [{ dtype: a.dtype, dims }];
};

function swapLast(builder: OperatorBuilder, value: string): string {
  const rank = builder.dimsOf(value).length;
  const permutation = Array.from({ length: rank }, (_, axis) => axis);
  permutation.splice(rank - 2, 2, rank - 1, rank - 2);
  return builder.transpose(value, permutation);
}

/** Many rows times one matrix: two plain products, no batch and no sum over it. */
const throughMatrix: GradientRule = ({ builder: b, node, gradient, needed }) => {
  const [x, w] = node.inputs as [string, string];
  const [inner, columns] = b.dimsOf(w) as [number, number];
  const rows = reshaped(b, gradient, [rowCount(b, x), columns]);
  return [
    needed[0] ? reshaped(b, b.gemm(rows, w, undefined, { transB: true }), b.dimsOf(x)) : undefined,
    needed[1]
      ? productOf(b, reshaped(b, x, [rowCount(b, x), inner]), rows, { alpha: 1, xT: true, yT: false })
      : undefined,
  ];
};

function rowCount(builder: OperatorBuilder, value: string): number {
  return elementCount(builder.dimsOf(value).slice(0, -1));
}

/**
 * alpha·X·Y. A tall, narrow result (LoRA's factors have r columns) is computed lying down and then turned, which
 * takes less than half the time; with MatMul, since runtimes put a Gemm and a Transpose behind it together again.
 */
function productOf(
  builder: OperatorBuilder,
  x: string,
  y: string,
  { alpha, xT, yT }: { alpha: number; xT: boolean; yT: boolean },
): string {
  const rows = builder.dimsOf(x)[xT ? 1 : 0]!;
  const columns = builder.dimsOf(y)[yT ? 0 : 1]!;
  if (!xT || columns * 4 > rows) {
    return builder.gemm(x, y, undefined, { ...(alpha === 1 ? {} : { alpha }), transA: xT, transB: yT });
  }
  const lying = builder.matMul(yT ? y : builder.transpose(y, [1, 0]), x);
  return builder.transpose(scaled(builder, lying, alpha), [1, 0]);
}

/** XᵀG, or (GᵀX)ᵀ where that turns the smaller of the two. */
function leftTransposedProduct(builder: OperatorBuilder, x: string, gradient: string): string {
  const narrow = builder.dimsOf(gradient).at(-1)! < builder.dimsOf(x).at(-1)!;
  if (!narrow) return builder.matMul(swapLast(builder, x), gradient);
  return swapLast(builder, builder.matMul(swapLast(builder, gradient), x));
}

const throughMatMul: GradientRule = (request) => {
  const { builder: b, node, gradient, needed } = request;
  const [left, right] = node.inputs as [string, string];
  if (b.dimsOf(right).length === 2) return throughMatrix(request);
  return [
    needed[0] ? b.matMul(gradient, swapLast(b, right)) : undefined,
    needed[1] ? leftTransposedProduct(b, left, gradient) : undefined,
  ];
};

const throughGemm: GradientRule = ({ builder: b, node, gradient, needed }) => {
  const [left, right] = node.inputs as [string, string];
  const alpha = floatOf(node.attributes, 'alpha', 1);
  const transA = integerOf(node.attributes, 'transA', 0) !== 0;
  const transB = integerOf(node.attributes, 'transB', 0) !== 0;
  const product = (x: string, y: string, xT: boolean, yT: boolean) => productOf(b, x, y, { alpha, xT, yT });
  const toLeft = () =>
    transA ? product(right, gradient, transB, true) : product(gradient, right, false, !transB);
  const toRight = () =>
    transB ? product(gradient, left, true, transA) : product(left, gradient, !transA, false);
  return [
    needed[0] ? toLeft() : undefined,
    needed[1] ? toRight() : undefined,
    needed[2] ? scaled(b, gradient, floatOf(node.attributes, 'beta', 1)) : undefined,
  ];
};

export const linearOperators: OperatorTable = {
  MatMul: {
    trainable: 'both',
    fileAttributes: [],
    infer: inferMatMul,
    gradient: throughMatMul,
    compose: vectorMatMul,
  },
  Gemm: {
    trainable: 'both',
    fileAttributes: ['alpha', 'beta', 'transA', 'transB'],
    infer: inferGemm,
    gradient: throughGemm,
  },
};
