/** Gradients of elementwise arithmetic. */
import type { GraphBuilder } from '../graph-builder.ts';
import { type GradientRequest, type GradientRule, scaled, sumTo } from './gradient-rule.ts';
import { asMask } from './masks.ts';

/** A rule for two broadcast inputs from their two partial products. */
function binary(
  left: (request: GradientRequest) => string,
  right: (request: GradientRequest) => string,
): GradientRule {
  return (request) =>
    [left, right].map((part, index) =>
      request.needed[index]
        ? sumTo(request.builder, part(request), request.builder.dimsOf(request.node.inputs[index]!))
        : undefined,
    );
}

export function unary(part: (request: GradientRequest, x: string, y: string) => string): GradientRule {
  return (request) => [part(request, request.node.inputs[0]!, request.node.outputs[0]!)];
}

/** d a^e / d a = e · a^(e − 1), without a power where the exponent is a known 1, 2 or 3. */
function powerBase({ builder: b, gradient, node: { inputs } }: GradientRequest): string {
  const [base, exponent] = inputs as [string, string];
  const known = b.constantOf(exponent);
  const value = known?.data.length === 1 ? Number(known.data[0]) : undefined;
  if (value === 1) return gradient;
  if (value === 2) return b.mul(gradient, scaled(b, base, 2));
  if (value === 3) return b.mul(gradient, scaled(b, b.mul(base, base), 3));
  const lower = value === undefined ? b.sub(exponent, b.scalar(1)) : b.scalar(value - 1);
  return b.mul(gradient, b.mul(exponent, b.pow(base, lower)));
}

/** Of two operands the one that was taken gets the gradient; of equal ones the first. */
function extreme(
  isSecond: (operands: readonly [string, string], builder: GraphBuilder) => string,
): GradientRule {
  return ({ builder: b, node, gradient, needed }) => {
    const [left, right] = node.inputs as [string, string];
    const toSecond = b.mul(gradient, asMask(b, isSecond([left, right], b)));
    return [
      needed[0] ? sumTo(b, b.sub(gradient, toSecond), b.dimsOf(left)) : undefined,
      needed[1] ? sumTo(b, toSecond, b.dimsOf(right)) : undefined,
    ];
  };
}

export const elementwiseGradients: Readonly<Record<string, GradientRule>> = {
  Identity: ({ gradient }) => [gradient],
  Add: binary(
    ({ gradient }) => gradient,
    ({ gradient }) => gradient,
  ),
  Sub: binary(
    ({ gradient }) => gradient,
    ({ builder, gradient }) => builder.neg(gradient),
  ),
  Mul: binary(
    ({ builder, gradient, node }) => builder.mul(gradient, node.inputs[1]!),
    ({ builder, gradient, node }) => builder.mul(gradient, node.inputs[0]!),
  ),
  Div: binary(
    ({ builder, gradient, node }) => builder.div(gradient, node.inputs[1]!),
    ({ builder, gradient, node }) =>
      builder.neg(builder.div(builder.mul(gradient, node.outputs[0]!), node.inputs[1]!)),
  ),
  Pow: binary(powerBase, ({ builder: b, gradient, node: { inputs, outputs } }) =>
    b.mul(gradient, b.mul(outputs[0]!, b.log(inputs[0]!))),
  ),
  Min: extreme(([left, right], b) => b.less(right, left)),
  Max: extreme(([left, right], b) => b.less(left, right)),
  Where: ({ builder: b, gradient, node: { inputs }, needed }) => {
    const zero = b.scalar(0);
    const [condition, left, right] = inputs;
    return [
      undefined,
      needed[1] ? sumTo(b, b.where(condition!, gradient, zero), b.dimsOf(left!)) : undefined,
      needed[2] ? sumTo(b, b.where(condition!, zero, gradient), b.dimsOf(right!)) : undefined,
    ];
  },
  Cast: ({ gradient }) => [gradient],
  Abs: unary(({ builder, gradient }, x) => builder.mul(gradient, builder.sign(x))),
  Reciprocal: unary(({ builder: b, gradient }, _x, y) => b.neg(b.mul(gradient, b.mul(y, y)))),
  Neg: unary(({ builder, gradient }) => builder.neg(gradient)),
  Sqrt: unary(({ builder, gradient }, _x, y) => builder.div(scaled(builder, gradient, 0.5), y)),
  Exp: unary(({ builder, gradient }, _x, y) => builder.mul(gradient, y)),
  Log: unary(({ builder, gradient }, x) => builder.div(gradient, x)),
  Erf: unary(({ builder: b, gradient }, x) =>
    b.mul(gradient, scaled(b, b.exp(b.neg(b.mul(x, x))), 2 / Math.sqrt(Math.PI))),
  ),
};
