/** Gradients of what normalises along axes: Softmax, LogSoftmax, LayerNormalization. */
import { floatOf, integerOf } from '../attributes.ts';
import { type GradientRule, sumTo } from './gradient-rule.ts';

const softmax: GradientRule = ({ builder: b, node, gradient }) => {
  const y = node.outputs[0]!;
  const axis = integerOf(node.attributes, 'axis', -1);
  const weighted = b.mul(gradient, y);
  return [b.sub(weighted, b.mul(y, b.reduceSum(weighted, [axis])))];
};

const logSoftmax: GradientRule = ({ builder: b, node, gradient }) => {
  const axis = integerOf(node.attributes, 'axis', -1);
  return [b.sub(gradient, b.mul(b.exp(node.outputs[0]!), b.reduceSum(gradient, [axis])))];
};

/** Ba, Kiros and Hinton 2016. Mean and variance are computed again rather than kept: few runtimes offer them. */
const layerNormalization: GradientRule = ({ builder: b, node, gradient, needed }) => {
  const [x, scale, bias] = node.inputs;
  const dims = b.dimsOf(x!);
  const first = integerOf(node.attributes, 'axis', -1);
  const from = first < 0 ? first + dims.length : first;
  const axes = dims.map((_, axis) => axis).slice(from);
  const result: (string | undefined)[] = [undefined, undefined, undefined];
  if (bias && needed[2]) result[2] = sumTo(b, gradient, b.dimsOf(bias));
  if (!needed[0] && !needed[1]) return result;
  const centred = b.sub(x!, b.reduceMean(x!, axes));
  const variance = b.reduceMean(b.mul(centred, centred), axes);
  const deviation = b.sqrt(b.add(variance, b.scalar(floatOf(node.attributes, 'epsilon', 1e-5))));
  const normal = b.div(centred, deviation);
  if (needed[1]) result[1] = sumTo(b, b.mul(gradient, normal), b.dimsOf(scale!));
  if (!needed[0]) return result;
  const inner = b.mul(gradient, scale!);
  const drift = b.reduceMean(b.mul(inner, normal), axes);
  const projected = b.sub(b.sub(inner, b.reduceMean(inner, axes)), b.mul(normal, drift));
  result[0] = b.div(projected, deviation);
  return result;
};

export const normalisationGradients: Readonly<Record<string, GradientRule>> = {
  Softmax: softmax,
  LogSoftmax: logSoftmax,
  LayerNormalization: layerNormalization,
};
