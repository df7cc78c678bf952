/** Gradients of elementwise operators. */
import { type GradientRequest, type GradientRule, scaled, sumTo } from './gradient-rule.ts';

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

function unary(part: (request: GradientRequest, x: string, y: string) => string): GradientRule {
  return (request) => [part(request, request.node.inputs[0]!, request.node.outputs[0]!)];
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
  Pow: binary(
    ({ builder: b, gradient, node: { inputs } }) =>
      b.mul(gradient, b.mul(inputs[1]!, b.pow(inputs[0]!, b.sub(inputs[1]!, b.scalar(1))))),
    ({ builder: b, gradient, node: { inputs, outputs } }) =>
      b.mul(gradient, b.mul(outputs[0]!, b.log(inputs[0]!))),
  ),
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
  Neg: unary(({ builder, gradient }) => builder.neg(gradient)),
  Sqrt: unary(({ builder, gradient }, _x, y) => builder.div(scaled(builder, gradient, 0.5), y)),
  Exp: unary(({ builder, gradient }, _x, y) => builder.mul(gradient, y)),
  Log: unary(({ builder, gradient }, x) => builder.div(gradient, x)),
  Erf: unary(({ builder: b, gradient }, x) =>
    b.mul(gradient, scaled(b, b.exp(b.neg(b.mul(x, x))), 2 / Math.sqrt(Math.PI))),
  ),
  Tanh: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, b.sub(b.scalar(1), b.mul(y, y)))),
  Sigmoid: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, b.mul(y, b.sub(b.scalar(1), y)))),
  // The output is positive exactly where the input is; it is alive anyhow, the input may not be.
  Relu: unary(({ builder: b, gradient }, _x, y) => b.where(b.greater(y, b.scalar(0)), gradient, b.scalar(0))),
};
