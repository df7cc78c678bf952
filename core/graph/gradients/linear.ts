/** Gradients of matrix products. */
import { floatOf, integerOf } from '../attributes.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { type GradientRule, reshaped, scaled, sumTo } from './gradient-rule.ts';

function swapLast(builder: GraphBuilder, value: string): string {
  const rank = builder.dimsOf(value).length;
  const permutation = Array.from({ length: rank }, (_, axis) => axis);
  permutation.splice(rank - 2, 2, rank - 1, rank - 2);
  return builder.transpose(value, permutation);
}

/** Many rows times one matrix: two plain products, no batch and no sum over it. */
const matMulByMatrix: GradientRule = ({ builder: b, node, gradient, needed }) => {
  const [x, w] = node.inputs as [string, string];
  const [inner, columns] = b.dimsOf(w) as [number, number];
  const rows = reshaped(
    b,
    gradient,
    [-1, columns].map((n) => (n < 0 ? rowCount(b, x) : n)),
  );
  return [
    needed[0] ? reshaped(b, b.gemm(rows, w, undefined, { transB: true }), b.dimsOf(x)) : undefined,
    needed[1]
      ? productOf(b, reshaped(b, x, [rowCount(b, x), inner]), rows, { alpha: 1, xT: true, yT: false })
      : undefined,
  ];
};

function rowCount(builder: GraphBuilder, value: string): number {
  return builder
    .dimsOf(value)
    .slice(0, -1)
    .reduce((product, size) => product * size, 1);
}

/**
 * alpha·X·Y. A tall, narrow result (LoRA's factors have r columns) is computed lying down and then turned, which
 * takes less than half the time; with MatMul, since runtimes put a Gemm and a Transpose behind it together again.
 */
function productOf(
  builder: GraphBuilder,
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
function leftTransposedProduct(builder: GraphBuilder, x: string, gradient: string): string {
  const narrow = builder.dimsOf(gradient).at(-1)! < builder.dimsOf(x).at(-1)!;
  if (!narrow) return builder.matMul(swapLast(builder, x), gradient);
  return swapLast(builder, builder.matMul(swapLast(builder, gradient), x));
}

const matMul: GradientRule = (request) => {
  const { builder: b, node, gradient, needed } = request;
  const [left, right] = node.inputs as [string, string];
  if (b.dimsOf(right).length === 2) return matMulByMatrix(request);
  return [
    needed[0] ? sumTo(b, b.matMul(gradient, swapLast(b, right)), b.dimsOf(left)) : undefined,
    needed[1] ? sumTo(b, leftTransposedProduct(b, left, gradient), b.dimsOf(right)) : undefined,
  ];
};

const gemm: GradientRule = ({ builder: b, node, gradient, needed }) => {
  const [left, right, summand] = node.inputs as [string, string, string | undefined];
  const alpha = floatOf(node.attributes, 'alpha', 1);
  const transA = integerOf(node.attributes, 'transA', 0) !== 0;
  const transB = integerOf(node.attributes, 'transB', 0) !== 0;
  const product = (x: string, y: string, xT: boolean, yT: boolean) => productOf(b, x, y, { alpha, xT, yT });
  const toLeft = () =>
    transA ? product(right, gradient, transB, true) : product(gradient, right, false, !transB);
  const toRight = () =>
    transB ? product(gradient, left, true, transA) : product(left, gradient, !transA, false);
  const toSummand = () =>
    scaled(b, sumTo(b, gradient, b.dimsOf(summand!)), floatOf(node.attributes, 'beta', 1));
  return [
    needed[0] ? toLeft() : undefined,
    needed[1] ? toRight() : undefined,
    summand && needed[2] ? toSummand() : undefined,
  ];
};

export const linearGradients: Readonly<Record<string, GradientRule>> = { MatMul: matMul, Gemm: gemm };
