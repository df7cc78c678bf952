/** Gradients of reductions. */
import { elementCount } from '../../shared/tensor.ts';
import { expanded, type GradientRequest, type GradientRule, reshaped, scaled } from './gradient-rule.ts';

/** Dims of the reduced value with the reduced axes kept as 1. */
function keptDims({ builder, node }: GradientRequest): number[] {
  const dims = builder.dimsOf(node.inputs[0]!);
  const axes = node.inputs[1] ? Array.from(builder.constantOf(node.inputs[1])!.data, Number) : undefined;
  const listed = axes?.length ? axes.map((axis) => (axis < 0 ? axis + dims.length : axis)) : dims.keys();
  const reduced = new Set(listed);
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

/** Equal extremes share the gradient evenly. */
const reduceExtreme: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const kept = keptDims(request);
  const hits = b.cast(b.equal(node.inputs[0]!, reshaped(b, node.outputs[0]!, kept)), 'float32');
  const axes = kept.flatMap((size, axis) => (size === 1 ? [axis] : []));
  const share = b.div(reshaped(b, gradient, kept), b.reduceSum(hits, axes));
  return [b.mul(hits, share)];
};

/** x / norm; where the norm is 0, so is the gradient, as in PyTorch. */
const reduceL2: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const norm = node.outputs[0]!;
  const share = b.where(b.greater(norm, b.scalar(0)), b.div(gradient, norm), b.scalar(0));
  return [b.mul(node.inputs[0]!, reshaped(b, share, keptDims(request)))];
};

const reduceLogSumExp: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const kept = keptDims(request);
  const shares = b.exp(b.sub(node.inputs[0]!, reshaped(b, node.outputs[0]!, kept)));
  return [b.mul(shares, reshaped(b, gradient, kept))];
};

export const reductionGradients: Readonly<Record<string, GradientRule>> = {
  ReduceSum: (request) => [spread(request, 1)],
  ReduceMean: reduceMean,
  ReduceMax: reduceExtreme,
  ReduceMin: reduceExtreme,
  ReduceL2: reduceL2,
  ReduceLogSumExp: reduceLogSumExp,
};
