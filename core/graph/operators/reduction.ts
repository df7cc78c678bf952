/** Reductions. A model file's are read by one rule (core/models/onnx): where their axes stand depends on the opset. */
import { elementCount } from '../../shared/tensor.ts';
import { integerOf } from '../attributes.ts';
import {
  constantIntegers,
  constantNumbers,
  type GradientRequest,
  type GradientRule,
  type InferenceRule,
  inputName,
  inputOf,
  knownNumbers,
  mismatch,
  type Operator,
  type OperatorRequest,
  type OperatorTable,
  resolveAxis,
} from './operator.ts';
import { asMask, expanded, reshaped, scaled } from './shared-nodes.ts';

/** An empty list of axes means all of them. */
const infer: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const given = constantIntegers(request, 1) ?? [];
  if (given.length === 0 && integerOf(request.attributes, 'noop_with_empty_axes', 0) !== 0) {
    throw mismatch(request, 'a reduction over no axes is not supported');
  }
  const axes = given.length > 0 ? given : [...dims.keys()];
  const reduced = new Set(axes.map((axis) => resolveAxis(request, axis, dims.length)));
  const keep = integerOf(request.attributes, 'keepdims', 1) !== 0;
  const kept = dims.map((size, axis) => (reduced.has(axis) ? 1 : size));
  return [{ dtype, dims: keep ? kept : kept.filter((_, axis) => !reduced.has(axis)) }];
};

/** Dims of the reduced value with the reduced axes kept as 1. */
function keptDims({ builder, node }: GradientRequest): number[] {
  const dims = builder.dimsOf(node.inputs[0]!);
  const axes = knownNumbers(builder, node.inputs[1]);
  const listed = axes?.length ? axes.map((axis) => (axis < 0 ? axis + dims.length : axis)) : dims.keys();
  const reduced = new Set(listed);
  return dims.map((size, axis) => (reduced.has(axis) ? 1 : size));
}

function spread(request: GradientRequest, factor: number): string {
  const { builder, node, gradient } = request;
  const kept = reshaped(builder, scaled(builder, gradient, factor), keptDims(request));
  return expanded(builder, kept, builder.dimsOf(node.inputs[0]!));
}

const throughMean: GradientRule = (request) => {
  const { builder, node } = request;
  const count =
    elementCount(builder.dimsOf(node.inputs[0]!)) / elementCount(builder.dimsOf(node.outputs[0]!));
  return [spread(request, 1 / count)];
};

/** Equal extremes share the gradient evenly. */
const throughExtreme: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const kept = keptDims(request);
  const hits = asMask(b, b.equal(node.inputs[0]!, reshaped(b, node.outputs[0]!, kept)));
  const axes = kept.flatMap((size, axis) => (size === 1 ? [axis] : []));
  const share = b.div(reshaped(b, gradient, kept), b.reduceSum(hits, axes));
  return [b.mul(hits, share)];
};

/** x / norm; where the norm is 0, so is the gradient, as in PyTorch. */
const throughNorm: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const norm = node.outputs[0]!;
  const share = b.where(b.greater(norm, b.scalar(0)), b.div(gradient, norm), b.scalar(0));
  return [b.mul(node.inputs[0]!, reshaped(b, share, keptDims(request)))];
};

const throughLogSumExp: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const kept = keptDims(request);
  const shares = b.exp(b.sub(node.inputs[0]!, reshaped(b, node.outputs[0]!, kept)));
  return [b.mul(shares, reshaped(b, gradient, kept))];
};

/** A reduction over no axes gives its input; without the attribute an empty list means all axes. */
function emptyReduction(request: OperatorRequest): string[] | undefined {
  const { builder, attributes } = request;
  const noop = integerOf(attributes, 'noop_with_empty_axes', 0) !== 0;
  if (!noop || constantNumbers(request, 1) !== undefined) return undefined;
  return [builder.identity(inputName(request, 0))];
}

/** ReduceSum of a function of the input, and a function of that. */
function sumOf(
  before: (request: OperatorRequest, x: string) => string,
  after: (request: OperatorRequest, sum: string) => string = (_request, sum) => sum,
): Operator {
  const compose = (request: OperatorRequest) => {
    const { builder, inputs, attributes } = request;
    const value = before(request, inputName(request, 0));
    return [after(request, builder.append1('ReduceSum', [value, ...inputs.slice(1)], attributes))];
  };
  return { trainable: 'input', compose };
}

export const reductionOperators: OperatorTable = {
  ReduceSum: {
    trainable: 'input',
    infer,
    gradient: (request) => [spread(request, 1)],
    compose: emptyReduction,
  },
  ReduceMean: { trainable: 'input', infer, gradient: throughMean, compose: emptyReduction },
  ReduceMax: { trainable: 'input', infer, gradient: throughExtreme, compose: emptyReduction },
  ReduceMin: { trainable: 'input', infer, gradient: throughExtreme, compose: emptyReduction },
  ReduceL2: { trainable: 'input', infer, gradient: throughNorm },
  ReduceLogSumExp: { trainable: 'input', infer, gradient: throughLogSumExp },
  ReduceL1: sumOf(({ builder }, x) => builder.abs(x)),
  ReduceSumSquare: sumOf(({ builder }, x) => builder.mul(x, x)),
  ReduceLogSum: sumOf(
    (_request, x) => x,
    ({ builder }, sum) => builder.log(sum),
  ),
};
