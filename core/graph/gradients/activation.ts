/** Gradients of activations. Where it can, a rule asks the output: it is alive anyhow, the input may not be. */
import { floatOf } from '../attributes.ts';
import { unary } from './elementwise.ts';
import { type GradientRequest, type GradientRule, scaled, sumTo } from './gradient-rule.ts';
import { asMask, positiveMask } from './masks.ts';

/** 1 where x is positive, for an activation that multiplies negative x by `slopes`; 0 elsewhere. */
function maskOf({ builder, node }: GradientRequest, slopes: ArrayLike<number | bigint> | undefined): string {
  const signKept = slopes !== undefined && Array.from(slopes, Number).every((slope) => slope >= 0);
  return positiveMask(builder, signKept ? node.outputs[0]! : node.inputs[0]!);
}

/** The gradient times 1 where x is positive and times the slope elsewhere. */
function throughSlope(request: GradientRequest, slope: string): string {
  const { builder: b, gradient } = request;
  const known = b.constantOf(slope)?.data;
  const mask = maskOf(request, known);
  if (known !== undefined && Array.from(known, Number).every((value) => value >= 0 && value <= 1)) {
    return b.mul(gradient, b.max(mask, slope));
  }
  return b.mul(gradient, b.add(b.mul(mask, b.sub(b.scalar(1), slope)), slope));
}

const leakyRelu: GradientRule = (request) => [
  throughSlope(request, request.builder.scalar(floatOf(request.node.attributes, 'alpha', 0.01))),
];

/** Source: He et al. 2015. */
const prelu: GradientRule = (request) => {
  const { builder: b, node, gradient, needed } = request;
  const [x, slope] = node.inputs as [string, string];
  const toSlope = () => sumTo(b, b.mul(gradient, b.min(x, b.scalar(0))), b.dimsOf(slope));
  return [needed[0] ? throughSlope(request, slope) : undefined, needed[1] ? toSlope() : undefined];
};

/** Below 0 the output is alpha · (exp x − 1), whose slope is the output plus alpha. */
const elu: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const y = node.outputs[0]!;
  const alpha = floatOf(node.attributes, 'alpha', 1);
  if (alpha === 1) return [b.mul(gradient, b.add(b.min(y, b.scalar(0)), b.scalar(1)))];
  const sign = alpha >= 0 ? y : node.inputs[0]!;
  const slope = b.where(b.greater(sign, b.scalar(0)), b.scalar(1), b.add(y, b.scalar(alpha)));
  return [b.mul(gradient, slope)];
};

/** y · (1 − y) is positive exactly between the two flat ends. */
const hardSigmoid: GradientRule = ({ builder: b, node, gradient }) => {
  const y = node.outputs[0]!;
  const rising = positiveMask(b, b.sub(y, b.mul(y, y)));
  return [scaled(b, b.mul(gradient, rising), floatOf(node.attributes, 'alpha', 0.2))];
};

export const activationGradients: Readonly<Record<string, GradientRule>> = {
  Tanh: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, b.sub(b.scalar(1), b.mul(y, y)))),
  Sigmoid: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, b.mul(y, b.sub(b.scalar(1), y)))),
  Relu: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, positiveMask(b, y))),
  Softplus: unary(({ builder: b, gradient }, x) => b.mul(gradient, b.sigmoid(x))),
  // At a bound itself the gradient goes through, as in PyTorch.
  Clip: unary(({ builder: b, gradient }, x, y) => b.mul(gradient, asMask(b, b.equal(x, y)))),
  LeakyRelu: leakyRelu,
  PRelu: prelu,
  Elu: elu,
  HardSigmoid: hardSigmoid,
};
