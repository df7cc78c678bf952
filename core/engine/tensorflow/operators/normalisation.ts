/** Softmax and the normalisations with learnt scale and shift. */
import * as tf from '@tensorflow/tfjs';
import { floatOf, integerOf } from '../../../graph/attributes.ts';
import { channelsLast, plain, type Value } from '../value.ts';
import {
  type NodeRequest,
  type Operator,
  type OperatorTable,
  plainKernel,
  rankOf,
  resolved,
} from './kernel.ts';

/** TensorFlow's softmax runs along the last axis; another one is brought there and back. */
function alongAxis(compute: (x: tf.Tensor) => tf.Tensor): Operator {
  return (request) => {
    const rank = rankOf(request);
    const axis = resolved(integerOf(request.attributes, 'axis', -1), rank);
    if (axis === rank - 1) return plainKernel((x) => compute(x!));
    const swapped = Array.from({ length: rank }, (_, index) => index);
    [swapped[axis], swapped[rank - 1]] = [rank - 1, axis];
    return plainKernel((x) => compute(x!.transpose(swapped)).transpose(swapped));
  };
}

interface Moments {
  readonly centred: tf.Tensor;
  readonly mean: tf.Tensor;
  /** 1 / sqrt(variance + epsilon) */
  readonly inverse: tf.Tensor;
}

function momentsOf(x: tf.Tensor, axes: number[], epsilon: number): Moments {
  const mean = tf.mean(x, axes, true);
  const centred = tf.sub(x, mean);
  const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), axes, true), epsilon));
  return { centred, mean, inverse };
}

const epsilonOf = ({ attributes }: NodeRequest) => floatOf(attributes, 'epsilon', 1e-5);

/** Outputs besides the result, when a graph asks for them: mean and 1 / deviation. */
const layerNormalization: Operator = (request) => {
  const rank = rankOf(request);
  const first = resolved(integerOf(request.attributes, 'axis', -1), rank);
  const axes = Array.from({ length: rank - first }, (_, index) => first + index);
  const epsilon = epsilonOf(request);
  const count = request.node.outputs.length;
  return ([x, scale, bias]) => {
    const { centred, mean, inverse } = momentsOf(x!.plain(), axes, epsilon);
    const scaled = tf.mul(tf.mul(centred, inverse), scale!.plain());
    const y = bias === undefined ? scaled : tf.add(scaled, bias.plain());
    return [y, mean, inverse].slice(0, count).map(plain);
  };
};

/** A value per channel in the shape that broadcasts over images. */
function perChannel(vector: Value, rank: number, last: boolean): tf.Tensor {
  const tensor = vector.plain();
  return last ? tensor : tensor.reshape([tensor.size, ...Array(rank - 2).fill(1)]);
}

/** With the running mean and variance: a fixed scale and shift per channel. */
const batchNormalization: Operator = (request) => {
  const epsilon = epsilonOf(request);
  const rank = rankOf(request);
  return ([x, scale, bias, mean, variance]) => {
    const last = x!.hasChannelsLast();
    const factor = tf.mul(scale!.plain(), tf.rsqrt(tf.add(variance!.plain(), epsilon)));
    const shift = tf.sub(bias!.plain(), tf.mul(mean!.plain(), factor));
    const shaped = (vector: tf.Tensor) =>
      last ? vector : vector.reshape([vector.size, ...Array(Math.max(rank - 2, 0)).fill(1)]);
    const value = last ? x!.channelsLast() : x!.plain();
    const y = tf.add(tf.mul(value, shaped(factor)), shaped(shift));
    return [last ? channelsLast(y) : plain(y)];
  };
};

/** Over the places of each channel of each image. */
const instanceNormalization: Operator = (request) => {
  const epsilon = epsilonOf(request);
  const rank = rankOf(request);
  return ([x, scale, bias]) => {
    const last = x!.hasChannelsLast();
    const places = Array.from({ length: rank - 2 }, (_, index) => index + (last ? 1 : 2));
    const { centred, inverse } = momentsOf(last ? x!.channelsLast() : x!.plain(), places, epsilon);
    const scaled = tf.mul(tf.mul(centred, inverse), perChannel(scale!, rank, last));
    const y = tf.add(scaled, perChannel(bias!, rank, last));
    return [last ? channelsLast(y) : plain(y)];
  };
};

export const normalisationOperators: OperatorTable = {
  Softmax: alongAxis((x) => tf.softmax(x)),
  LogSoftmax: alongAxis((x) => tf.logSoftmax(x)),
  LayerNormalization: layerNormalization,
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
};
