/** Gradient of Gelu. */
import { type GradientRule, scaled } from './gradient-rule.ts';

/** d x·Φ(x) / dx = Φ(x) + x·φ(x). */
const gelu: GradientRule = ({ builder: b, node, gradient }) => {
  const x = node.inputs[0]!;
  const half = (value: string) => b.mul(value, b.scalar(0.5));
  const cumulative = half(b.add(b.erf(scaled(b, x, Math.SQRT1_2)), b.scalar(1)));
  const density = scaled(b, b.exp(half(b.neg(b.mul(x, x)))), 1 / Math.sqrt(2 * Math.PI));
  return [b.mul(gradient, b.add(cumulative, b.mul(x, density)))];
};

export const geluGradients: Readonly<Record<string, GradientRule>> = { Gelu: gelu };
