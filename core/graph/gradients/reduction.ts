/** Gradients of reductions and of what normalises along axes. */
import { elementCount } from '../../shared/tensor.ts';
import { floatOf, integerOf } from '../attributes.ts';
import {
  expanded,
  type GradientRequest,
  type GradientRule,
  reshaped,
  scaled,
  sumTo,
} from './gradient-rule.ts';

/** Dims of the reduced value with the reduced axes kept as 1. */
function keptDims({ builder, node }: GradientRequest): number[] {
  const dims = builder.dimsOf(node.inputs[0]!);
  const axes = node.inputs[1] ? Array.from(builder.constantOf(node.inputs[1])!.data, Number) : undefined;
  const reduced = new Set(axes?.map((axis) => (axis < 0 ? axis + dims.length : axis)) ?? dims.keys());
  return dims.map((size, axis) => (reduced.has(axis) ? 1 : size));
}

function spread(request: GradientRequest, factor: number): string {
  const { builder, node, gradient } = request;
  const kept = reshaped(builder, scaled(builder, gradient, factor), keptDims(request));
  return expanded(builder, kept, builder.dimsOf(node.inputs[0]!));
}

const reduceMean: GradientRule = (request) => {
  const { builder, node } = request;
  const count =
    elementCount(builder.dimsOf(node.inputs[0]!)) / elementCount(builder.dimsOf(node.outputs[0]!));
  return [spread(request, 1 / count)];
};

/** Equal maxima share the gradient evenly. */
const reduceMax: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const kept = keptDims(request);
  const hits = b.cast(b.equal(node.inputs[0]!, reshaped(b, node.outputs[0]!, kept)), 'float32');
  const axes = kept.flatMap((size, axis) => (size === 1 ? [axis] : []));
  const share = b.div(reshaped(b, gradient, kept), b.reduceSum(hits, axes));
  return [b.mul(hits, share)];
};

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

export const reductionGradients: Readonly<Record<string, GradientRule>> = {
  ReduceSum: (request) => [spread(request, 1)],
  ReduceMean: reduceMean,
  ReduceMax: reduceMax,
  Softmax: softmax,
  LogSoftmax: logSoftmax,
  LayerNormalization: layerNormalization,
};
