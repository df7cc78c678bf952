/** Layers of networks in terms of others. */
import { elementCount } from '../../shared/tensor.ts';
import { floatOf, integerOf } from '../attributes.ts';
import { type CompositeRequest, inputName, unfit } from './composite-rule.ts';

/** The largest value of each channel; equal ones share the gradient. */
export function globalMaxPool(request: CompositeRequest): string[] {
  const { builder } = request;
  const x = inputName(request, 0);
  const spatial = builder.dimsOf(x).slice(2);
  return [
    builder.reduceMax(
      x,
      spatial.map((_, axis) => axis + 2),
    ),
  ];
}

/**
 * The form of opset 21: scale and bias have one value per channel. Each group is normalised as one instance,
 * for which ONNX Runtime has a kernel. Source: Wu and He 2018.
 */
export function groupNormalization(request: CompositeRequest): string[] {
  const { builder, attributes } = request;
  const [x, scale, bias] = [inputName(request, 0), inputName(request, 1), inputName(request, 2)];
  const dims = builder.dimsOf(x);
  const groups = integerOf(attributes, 'num_groups', 0);
  const [batch, channels] = dims as [number, number];
  if (dims.length < 3 || groups < 1 || channels % groups !== 0) {
    throw unfit(request, `its channels do not divide into ${groups} groups`);
  }
  for (const parameter of [scale, bias]) {
    if (builder.dimsOf(parameter).join() !== `${channels}`) {
      throw unfit(request, `scale and bias need shape [${channels}]`);
    }
  }
  const grouped = builder.reshape(x, [batch, groups, elementCount(dims.slice(1)) / groups]);
  const filled = (value: number) =>
    builder.constant({ dtype: 'float32', dims: [groups], data: new Float32Array(groups).fill(value) });
  const normal = builder.instanceNormalization(grouped, filled(1), filled(0), {
    epsilon: floatOf(attributes, 'epsilon', 1e-5),
  });
  const perChannel = [channels, ...dims.slice(2).map(() => 1)];
  const spread = (value: string) => builder.reshape(value, perChannel);
  return [builder.add(builder.mul(builder.reshape(normal, dims), spread(scale)), spread(bias))];
}

/** MatMul with a vector: it becomes a matrix of one row (left) or one column (right), whose axis then goes. */
export function vectorMatMul(request: CompositeRequest): string[] | undefined {
  const { builder } = request;
  const [a, b] = [inputName(request, 0), inputName(request, 1)];
  const [leftRank, rightRank] = [builder.dimsOf(a).length, builder.dimsOf(b).length];
  if (leftRank !== 1 && rightRank !== 1) return undefined;
  if (leftRank === 0 || rightRank === 0) throw unfit(request, 'a scalar has no product of matrices');
  const product = builder.matMul(
    leftRank === 1 ? builder.unsqueeze(a, [0]) : a,
    rightRank === 1 ? builder.unsqueeze(b, [1]) : b,
  );
  const gone = [...(leftRank === 1 ? [-2] : []), ...(rightRank === 1 ? [-1] : [])];
  return [builder.squeeze(product, gone)];
}
