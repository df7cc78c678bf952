/** Gradients of activations. Where it can, a rule asks the output: it is alive anyhow, the input may not be. */
import { floatOf } from '../attributes.ts';
import { unary } from './elementwise.ts';
import { type GradientRequest, type GradientRule, sumTo } from './gradient-rule.ts';

/** A value that is positive exactly where x is, for an activation that multiplies negative x by `slopes`. */
function signOf({ builder, node }: GradientRequest, slopes: ArrayLike<number | bigint> | undefined): string {
  const kept = slopes !== undefined && Array.from(slopes, Number).every((slope) => slope >= 0);
  const value = kept ? node.outputs[0]! : node.inputs[0]!;
  return builder.greater(value, builder.scalar(0));
}

const leakyRelu: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const alpha = floatOf(node.attributes, 'alpha', 0.01);
  return [b.where(signOf(request, [alpha]), gradient, b.mul(gradient, b.scalar(alpha)))];
};

/** Source: He et al. 2015. */
const prelu: GradientRule = (request) => {
  const { builder: b, node, gradient, needed } = request;
  const [x, slope] = node.inputs as [string, string];
  const toInput = () => b.where(signOf(request, b.constantOf(slope)?.data), gradient, b.mul(gradient, slope));
  const toSlope = () => sumTo(b, b.mul(gradient, b.min(x, b.scalar(0))), b.dimsOf(slope));
  return [needed[0] ? toInput() : undefined, needed[1] ? toSlope() : undefined];
};

/** Below 0 the output is alpha · (exp x − 1), whose slope is the output plus alpha. */
const elu: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const alpha = floatOf(node.attributes, 'alpha', 1);
  const below = b.mul(gradient, b.add(node.outputs[0]!, b.scalar(alpha)));
  return [b.where(signOf(request, [alpha]), gradient, below)];
};

/** y · (1 − y) is positive exactly between the two flat ends. */
const hardSigmoid: GradientRule = ({ builder: b, node, gradient }) => {
  const y = node.outputs[0]!;
  const alpha = floatOf(node.attributes, 'alpha', 0.2);
  const rising = b.greater(b.sub(y, b.mul(y, y)), b.scalar(0));
  return [b.where(rising, b.mul(gradient, b.scalar(alpha)), b.scalar(0))];
};

export const activationGradients: Readonly<Record<string, GradientRule>> = {
  Tanh: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, b.sub(b.scalar(1), b.mul(y, y)))),
  Sigmoid: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, b.mul(y, b.sub(b.scalar(1), y)))),
  Relu: unary(({ builder: b, gradient }, _x, y) => b.where(b.greater(y, b.scalar(0)), gradient, b.scalar(0))),
  Softplus: unary(({ builder: b, gradient }, x) => b.mul(gradient, b.sigmoid(x))),
  // At a bound itself the gradient goes through, as in PyTorch.
  Clip: unary(({ builder: b, gradient }, x, y) => b.where(b.equal(x, y), gradient, b.scalar(0))),
  LeakyRelu: leakyRelu,
  PRelu: prelu,
  Elu: elu,
  HardSigmoid: hardSigmoid,
};
