/** Gradients of what normalises per channel or by a norm. */
import { type FloatTensor, floatTensor } from '../../shared/tensor.ts';
import { floatOf, integerOf } from '../attributes.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { type GradientRule, reshaped } from './gradient-rule.ts';

const defaultEpsilon = 1e-5;

/** [channels] in the shape [channels, 1, …] that broadcasts over `rank` axes with the channels second. */
function perChannel(builder: GraphBuilder, vector: string, rank: number): string {
  const dims = [builder.dimsOf(vector)[0]!, ...new Array<number>(rank - 2).fill(1)];
  const known = builder.constantOf(vector);
  if (known === undefined) return reshaped(builder, vector, dims);
  return builder.constant(floatTensor(dims, known.data as Float32Array));
}

/** All axes but the channels. */
function otherAxes(rank: number): number[] {
  return Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis !== 1);
}

/** 1 / √(variance + epsilon) [channels]; computed now when the variance is known. */
function inverseDeviation(builder: GraphBuilder, variance: string, epsilon: number): string {
  const known = builder.constantOf(variance);
  if (known === undefined) {
    return builder.reciprocal(builder.sqrt(builder.add(variance, builder.scalar(epsilon))));
  }
  const inverse = Float32Array.from(known.data as Float32Array, (value) => 1 / Math.sqrt(value + epsilon));
  return builder.constant(floatTensor(known.dims, inverse));
}

/** The product of two vectors; computed now when both are known, and no node when one is all ones. */
function product(builder: GraphBuilder, a: string, b: string): string {
  const [left, right] = [builder.constantOf(a), builder.constantOf(b)] as (FloatTensor | undefined)[];
  if (right?.data.every((value) => value === 1)) return a;
  if (left === undefined || right === undefined) return builder.mul(a, b);
  return builder.constant(
    floatTensor(
      left.dims,
      left.data.map((value, index) => value * right.data[index]!),
    ),
  );
}

/**
 * Mean and variance count as constants, as in the evaluation mode of other libraries: they get no gradient.
 * Source: Ioffe and Szegedy 2015.
 */
const batchNormalization: GradientRule = ({ builder: b, node, gradient, needed }) => {
  const [x, scale, , mean, variance] = node.inputs as [string, string, string, string, string];
  const rank = b.dimsOf(x).length;
  const inverse = inverseDeviation(b, variance, floatOf(node.attributes, 'epsilon', defaultEpsilon));
  const toScale = () => {
    const centred = b.sub(x, perChannel(b, mean, rank));
    return b.mul(b.reduceSum(b.mul(gradient, centred), otherAxes(rank), false), inverse);
  };
  return [
    needed[0] ? b.mul(gradient, perChannel(b, product(b, inverse, scale), rank)) : undefined,
    needed[1] ? toScale() : undefined,
    needed[2] ? b.reduceSum(gradient, otherAxes(rank), false) : undefined,
  ];
};

/**
 * Per sample and channel, over all other axes: with c = x − mean and i = 1 / deviation,
 * dx = scale · i · (g − mean(g) − c · i² · mean(g · c)). Mean and deviation are computed again rather than
 * kept: the operator does not give them. Source: Ulyanov et al. 2016.
 */
const instanceNormalization: GradientRule = ({ builder: b, node, gradient, needed }) => {
  const [x, scale] = node.inputs as [string, string];
  const rank = b.dimsOf(x).length;
  const axes = Array.from({ length: rank - 2 }, (_, index) => index + 2);
  const toBias = needed[2] ? b.reduceSum(gradient, otherAxes(rank), false) : undefined;
  if (!needed[0] && !needed[1]) return [undefined, undefined, toBias];
  const centred = b.sub(x, b.reduceMean(x, axes));
  const variance = b.reduceMean(b.mul(centred, centred), axes);
  const epsilon = b.scalar(floatOf(node.attributes, 'epsilon', defaultEpsilon));
  const inverse = b.reciprocal(b.sqrt(b.add(variance, epsilon)));
  const meanProduct = b.reduceMean(b.mul(gradient, centred), axes);
  const alongNormal = b.mul(meanProduct, inverse);
  const toInput = () => {
    const drift = b.mul(centred, b.mul(alongNormal, inverse));
    const rest = b.sub(b.sub(gradient, b.reduceMean(gradient, axes)), drift);
    return b.mul(rest, product(b, inverse, perChannel(b, scale, rank)));
  };
  const toScale = () => {
    const places = axes.reduce((count, axis) => count * b.dimsOf(x)[axis]!, 1);
    return b.mul(b.reduceSum(alongNormal, otherAxes(rank), false), b.scalar(places));
  };
  return [needed[0] ? toInput() : undefined, needed[1] ? toScale() : undefined, toBias];
};

/** y = x / n: dx = (g − n′ · Σ g · y) / n with n′ = y for p = 2 and the sign of x for p = 1; 0 where n is 0. */
const lpNormalization: GradientRule = ({ builder: b, node, gradient }) => {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const axes = [integerOf(node.attributes, 'axis', -1)];
  const first = integerOf(node.attributes, 'p', 2) === 1;
  const norm = first ? b.reduceSum(b.abs(x), axes) : b.reduceL2(x, axes);
  const inverse = b.where(b.greater(norm, b.scalar(0)), b.reciprocal(norm), b.scalar(0));
  const drift = b.mul(first ? b.sign(x) : y, b.reduceSum(b.mul(gradient, y), axes));
  return [b.mul(b.sub(gradient, drift), inverse)];
};

export const channelNormalisationGradients: Readonly<Record<string, GradientRule>> = {
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
  LpNormalization: lpNormalization,
};
