/** What normalises along axes. */
import { sameDims } from '../../shared/tensor.ts';
import { integerOf } from '../attributes.ts';
import type { GraphNode } from '../graph.ts';
import type { OperatorBuilder } from '../operator-builder.ts';
import {
  type GradientRequest,
  type GradientRule,
  type InferenceRule,
  inputOf,
  mismatch,
  type OperatorTable,
  optionalInput,
} from './operator.ts';

const inferNormalised: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  const axis = integerOf(request.attributes, 'axis', -1);
  if (axis < -x.dims.length || axis >= x.dims.length) throw mismatch(request, `there is no axis ${axis}`);
  return [x];
};

const inferLayerNormalization: InferenceRule = (request) => {
  const [x] = inferNormalised(request);
  const tail = x!.dims.slice(integerOf(request.attributes, 'axis', -1));
  for (const index of [1, 2]) {
    const parameter = optionalInput(request, index);
    if (parameter !== undefined && parameter.dims.join() !== tail.join()) {
      throw mismatch(request, `scale and bias need shape [${tail.join(', ')}]`);
    }
  }
  return [x!];
};

const inferLpNormalization: InferenceRule = (request) => {
  const p = integerOf(request.attributes, 'p', 2);
  if (p !== 1 && p !== 2) throw mismatch(request, `the norm p = ${p} is not supported`);
  return inferNormalised(request);
};

const throughSoftmax: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const y = node.outputs[0]!;
  const axis = integerOf(node.attributes, 'axis', -1);
  const rowSums = attentionRowSums(request) ?? b.reduceSum(b.mul(gradient, y), [axis]);
  return [b.mul(y, b.sub(gradient, rowSums))];
};

/**
 * In attention, where O = P·V and so dP = dO·Vᵀ, the row sums of dP∘P are those of dO∘O (Dao et al. 2022), which
 * are as long as a head is wide and not as the sequence is long. Undefined when the softmax is used otherwise.
 */
function attentionRowSums({ builder: b, node, gradient }: GradientRequest): string | undefined {
  const weights = node.outputs[0]!;
  const rank = b.dimsOf(weights).length;
  const axis = integerOf(node.attributes, 'axis', -1);
  if (rank < 3 || (axis !== -1 && axis !== rank - 1)) return undefined;
  const users = b.nodes.filter(({ inputs }) => inputs.includes(weights));
  const product = users.find(({ op, inputs }) => op === 'MatMul' && inputs[0] === weights);
  const source = producerOf(b, gradient);
  if (product === undefined || source?.op !== 'MatMul') return undefined;
  const [upstream, turned] = source.inputs as [string, string];
  const mixed = product.outputs[0]!;
  const fromSameValues =
    producerOf(b, turned)?.op === 'Transpose' && producerOf(b, turned)?.inputs[0] === product.inputs[1];
  // Only the forward product may read the weights (its own gradient reads them too), and nothing may have been broadcast.
  const others = users.filter((user) => user !== product && !isGradientOfProduct(user, weights));
  if (!fromSameValues || others.length > 0 || !sameDims(b.dimsOf(upstream), b.dimsOf(mixed)))
    return undefined;
  if (!sameDims(b.dimsOf(gradient), b.dimsOf(weights))) return undefined;
  return b.reduceSum(b.mul(upstream, mixed), [-1]);
}

/** How the gradient of `weights · values` towards the values reads the weights; see linear.ts. */
function isGradientOfProduct({ op, inputs }: GraphNode, weights: string): boolean {
  return (op === 'Transpose' && inputs[0] === weights) || (op === 'MatMul' && inputs[1] === weights);
}

function producerOf(builder: OperatorBuilder, value: string): GraphNode | undefined {
  return builder.nodes.findLast(({ outputs }) => outputs.includes(value));
}

const throughLogSoftmax: GradientRule = ({ builder: b, node, gradient }) => {
  const axis = integerOf(node.attributes, 'axis', -1);
  return [b.sub(gradient, b.mul(b.exp(node.outputs[0]!), b.reduceSum(gradient, [axis])))];
};

/**
 * Ba, Kiros and Hinton 2016: dx = (g − mean(g) − x̂·mean(g∘x̂))/σ with g the gradient times the scale. Mean and 1/σ
 * are further outputs of the operator itself.
 */
const throughLayerNormalization: GradientRule = ({ builder: b, node, gradient, needed }) => {
  const [x, scale, bias] = node.inputs as [string, string, string | undefined];
  const dims = b.dimsOf(x);
  const first = integerOf(node.attributes, 'axis', -1);
  const from = first < 0 ? first + dims.length : first;
  const axes = dims.map((_, axis) => axis).slice(from);
  const result: (string | undefined)[] = [undefined, undefined, undefined];
  if (needed[2]) result[2] = gradient;
  if (!needed[0] && !needed[1]) return result;
  const statistics = { dtype: 'float32' as const, dims: dims.map((size, axis) => (axis < from ? size : 1)) };
  const [, mean, inverseDeviation] = b.extendOutputs(node, [statistics, statistics]) as [
    string,
    string,
    string,
  ];
  const isPlain = isFilledWith(b, scale, 1) && (!bias || isFilledWith(b, bias, 0));
  const normal = isPlain ? node.outputs[0]! : b.mul(b.sub(x, mean), inverseDeviation);
  if (needed[1]) result[1] = b.mul(gradient, normal);
  if (!needed[0]) return result;
  const inner = isPlain ? gradient : b.mul(gradient, scale);
  const drift = b.reduceMean(b.mul(inner, normal), axes);
  const centred = b.sub(inner, b.reduceMean(inner, axes));
  result[0] = b.mul(b.sub(centred, b.mul(normal, drift)), inverseDeviation);
  return result;
};

function isFilledWith(builder: OperatorBuilder, name: string, value: number): boolean {
  return builder.constantOf(name)?.data.every((item) => item === value) ?? false;
}

/** y = x / n: dx = (g − n′ · Σ g · y) / n with n′ = y for p = 2 and the sign of x for p = 1; 0 where n is 0. */
const throughLpNormalization: GradientRule = ({ builder: b, node, gradient }) => {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const axes = [integerOf(node.attributes, 'axis', -1)];
  const first = integerOf(node.attributes, 'p', 2) === 1;
  const norm = first ? b.reduceSum(b.abs(x), axes) : b.reduceL2(x, axes);
  const inverse = b.where(b.greater(norm, b.scalar(0)), b.reciprocal(norm), b.scalar(0));
  const drift = b.mul(first ? b.sign(x) : y, b.reduceSum(b.mul(gradient, y), axes));
  return [b.mul(b.sub(gradient, drift), inverse)];
};

export const normalisationOperators: OperatorTable = {
  Softmax: { trainable: 'input', infer: inferNormalised, gradient: throughSoftmax },
  LogSoftmax: { trainable: 'input', infer: inferNormalised, gradient: throughLogSoftmax },
  LpNormalization: {
    trainable: 'input',
    fileAttributes: ['axis', 'p'],
    infer: inferLpNormalization,
    gradient: throughLpNormalization,
  },
  LayerNormalization: {
    trainable: 'both',
    infer: inferLayerNormalization,
    gradient: throughLayerNormalization,
  },
};
