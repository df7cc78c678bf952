/** What normalises per channel. */
import { elementCount, type FloatTensor, floatTensor } from '../../shared/tensor.ts';
import { plural } from '../../shared/text.ts';
import { floatOf, integerOf } from '../attributes.ts';
import type { OperatorBuilder } from '../operator-builder.ts';
import {
  type Composition,
  floatInput,
  type GradientRule,
  type InferenceRule,
  inputName,
  inputOf,
  mismatch,
  type OperatorRequest,
  type OperatorTable,
} from './operator.ts';
import { filled, reshaped } from './shared-nodes.ts';

const defaultEpsilon = 1e-5;

/** @throws AppError SHAPE_MISMATCH unless the inputs from 1 on have one value per channel */
function checkChannels(request: OperatorRequest, count: number): void {
  const { dims } = inputOf(request, 0);
  for (let index = 1; index <= count; index++) {
    if (floatInput(request, index).dims.join() !== `${dims[1]}`) {
      throw mismatch(request, `input ${index} needs shape [${dims[1]}], one value per channel`);
    }
  }
}

/** The inference form: mean and variance are given, not taken from the batch. */
const inferBatchNormalization: InferenceRule = (request) => {
  const x = floatInput(request, 0);
  if (x.dims.length < 2) throw mismatch(request, 'the input has no axis of channels');
  if (integerOf(request.attributes, 'training_mode', 0) !== 0 || request.outputCount !== 1) {
    throw mismatch(request, 'only the inference form with one output is supported');
  }
  checkChannels(request, 4);
  return [x];
};

const inferInstanceNormalization: InferenceRule = (request) => {
  const x = floatInput(request, 0);
  if (x.dims.length < 3) throw mismatch(request, 'the input has no axes behind its channels');
  checkChannels(request, 2);
  return [x];
};

/** [channels] in the shape [channels, 1, …] that broadcasts over `rank` axes with the channels second. */
function perChannel(builder: OperatorBuilder, vector: string, rank: number): string {
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
function inverseDeviation(builder: OperatorBuilder, variance: string, epsilon: number): string {
  const known = builder.constantOf(variance);
  if (known === undefined) {
    return builder.reciprocal(builder.sqrt(builder.add(variance, builder.scalar(epsilon))));
  }
  const inverse = Float32Array.from(known.data as Float32Array, (value) => 1 / Math.sqrt(value + epsilon));
  return builder.constant(floatTensor(known.dims, inverse));
}

/** The product of two vectors; computed now when both are known, and no node when one is all ones. */
function product(builder: OperatorBuilder, a: string, b: string): string {
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
const throughBatchNormalization: GradientRule = ({ builder: b, node, gradient, needed }) => {
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
const throughInstanceNormalization: GradientRule = ({ builder: b, node, gradient, needed }) => {
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

/**
 * The form of opset 21: scale and bias have one value per channel. Each group is normalised as one instance,
 * for which ONNX Runtime has a kernel. Source: Wu and He 2018.
 */
const groupNormalization: Composition = (request) => {
  const { builder, attributes } = request;
  const [x, scale, bias] = [inputName(request, 0), inputName(request, 1), inputName(request, 2)];
  const dims = builder.dimsOf(x);
  const groups = integerOf(attributes, 'num_groups', 0);
  const [batch, channels] = dims as [number, number];
  if (dims.length < 3 || groups < 1 || channels % groups !== 0) {
    throw mismatch(request, `its channels do not divide into ${plural(groups, 'group')}`);
  }
  for (const parameter of [scale, bias]) {
    if (builder.dimsOf(parameter).join() !== `${channels}`) {
      throw mismatch(request, `scale and bias need shape [${channels}]`);
    }
  }
  const grouped = builder.reshape(x, [batch, groups, elementCount(dims.slice(1)) / groups]);
  const [ones, zeros] = [filled(builder, [groups], 1), filled(builder, [groups], 0)];
  const epsilon = floatOf(attributes, 'epsilon', defaultEpsilon);
  const normal = builder.instanceNormalization(grouped, ones, zeros, { epsilon });
  const perChannel = [channels, ...dims.slice(2).map(() => 1)];
  const spread = (value: string) => builder.reshape(value, perChannel);
  return [builder.add(builder.mul(builder.reshape(normal, dims), spread(scale)), spread(bias))];
};

/**
 * x / (bias + alpha · mean of x² over `size` neighbouring channels)^beta, places beyond the channels counting as 0.
 * Source: Krizhevsky et al. 2012; the defaults are those of the ONNX page.
 */
const localResponse: Composition = (request) => {
  const { builder: b, attributes } = request;
  const { dims } = floatInput(request, 0);
  const x = inputName(request, 0);
  const size = integerOf(attributes, 'size', 0);
  const [batch, channels] = dims;
  if (batch === undefined || channels === undefined || size < 1)
    throw mismatch(request, 'it needs channels and a size');
  const planes = [batch, 1, channels, elementCount(dims.slice(2))];
  const pads = [Math.floor((size - 1) / 2), 0, Math.ceil((size - 1) / 2), 0];
  const squares = b.reshape(b.mul(x, x), planes);
  const means = b.averagePool(squares, [size, 1], { pads, countIncludePad: true });
  const scaled = b.mul(b.reshape(means, dims), b.scalar(floatOf(attributes, 'alpha', 1e-4)));
  const base = b.add(scaled, b.scalar(floatOf(attributes, 'bias', 1)));
  return [b.div(x, b.pow(base, b.scalar(floatOf(attributes, 'beta', 0.75))))];
};

export const channelNormalisationOperators: OperatorTable = {
  LRN: { trainable: 'input', fileAttributes: ['size', 'alpha', 'beta', 'bias'], compose: localResponse },
  BatchNormalization: {
    trainable: 'both',
    infer: inferBatchNormalization,
    gradient: throughBatchNormalization,
  },
  InstanceNormalization: {
    trainable: 'both',
    fileAttributes: ['epsilon'],
    infer: inferInstanceNormalization,
    gradient: throughInstanceNormalization,
  },
  GroupNormalization: { trainable: 'both', compose: groupNormalization },
};
