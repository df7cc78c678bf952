/** Gradient of Gelu (Hendrycks and Gimpel 2016), exact and with the tanh approximation. */
import { stringOf } from '../attributes.ts';
import { type GradientRequest, type GradientRule, scaled } from './gradient-rule.ts';

/**
 * d x·Φ(x) / dx = Φ(x) + x·φ(x). With t = x/√2 that is half of (1 + erf t) + t·exp(ln(2/√π) − t²): few passes
 * over memory, and t and erf t are what the forward pass computes as well.
 */
function exactDerivative({ builder: b }: GradientRequest, x: string): string {
  const t = scaled(b, x, Math.SQRT1_2);
  const twiceCumulative = b.add(b.erf(t), b.scalar(1));
  const density = b.exp(b.sub(b.scalar(Math.log(2 / Math.sqrt(Math.PI))), b.mul(t, t)));
  return b.add(twiceCumulative, b.mul(t, density));
}

/** d ½x(1 + tanh u) / dx with u = √(2/π)(x + 0.044715x³), doubled. */
function tanhDerivative({ builder: b }: GradientRequest, x: string): string {
  const cubic = 0.044715;
  const factor = Math.sqrt(2 / Math.PI);
  const square = b.mul(x, x);
  const inner = b.mul(scaled(b, x, factor), b.add(scaled(b, square, cubic), b.scalar(1)));
  const tanh = b.tanh(inner);
  const slope = b.add(scaled(b, square, 3 * cubic * factor), b.scalar(factor));
  const rise = b.sub(b.scalar(1), b.mul(tanh, tanh));
  return b.add(b.add(tanh, b.scalar(1)), b.mul(b.mul(x, rise), slope));
}

const gelu: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const x = node.inputs[0]!;
  const derivative =
    stringOf(node.attributes, 'approximate', 'none') === 'tanh' ? tanhDerivative : exactDerivative;
  return [b.mul(scaled(b, gradient, 0.5), derivative(request, x))];
};

export const geluGradients: Readonly<Record<string, GradientRule>> = { Gelu: gelu };
