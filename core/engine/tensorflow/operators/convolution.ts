/** Convolutions, channels last: the one order that TensorFlow has on processors and that its WASM backend has. */
import * as tf from '@tensorflow/tfjs';
import { integerOf } from '../../../graph/attributes.ts';
import { type Window, windowOf } from '../../../graph/operators/window.ts';
import { channelsLast, type Value } from '../value.ts';
import { type Kernel, type NodeRequest, type Operator, type OperatorTable, unsupported } from './kernel.ts';

type Pair = [number, number];

interface ConvolutionSettings {
  readonly window: Window;
  readonly group: number;
  readonly strides: Pair;
  readonly dilations: Pair;
  /** Height and width of the output. */
  readonly outputSize: Pair;
}

function settingsOf(request: NodeRequest): ConvolutionSettings {
  const weight = request.inputs[1]!;
  if (weight.dims.length !== 4) throw unsupported(request, 'only images of two dimensions are supported');
  const window = windowOf(request.attributes, weight.dims.slice(2));
  return {
    window,
    group: integerOf(request.attributes, 'group', 1),
    strides: [window.strides[0]!, window.strides[1]!],
    dilations: [window.dilations[0]!, window.dilations[1]!],
    outputSize: [request.outputs[0]!.dims[2]!, request.outputs[0]!.dims[3]!],
  };
}

/** Kernels with zeros in the gaps, for the combinations that TensorFlow has no dilation for. @param filter [kh, kw, …] */
function spreadOut(filter: tf.Tensor, [down, across]: Pair): tf.Tensor4D {
  const [height, width, a, b] = filter.shape as [number, number, number, number];
  if (down === 1 && across === 1) return filter as tf.Tensor4D;
  const gaps: [number, number][] = [
    [0, 0],
    [0, down - 1],
    [0, 0],
    [0, across - 1],
    [0, 0],
  ];
  const spread = tf.pad(filter.reshape([height, 1, width, 1, a * b]), gaps);
  const size = [down * (height - 1) + 1, across * (width - 1) + 1, a, b] as [number, number, number, number];
  return tf.slice(spread.reshape([height * down, width * across, a, b]), [0, 0, 0, 0], size) as tf.Tensor4D;
}

/** [out, in, kh, kw] to [kh, kw, in, out]; of a transposed convolution [in, out, kh, kw] to [kh, kw, out, in]. */
function filterOf(weight: Value, spread: Pair): tf.Tensor4D {
  return weight.form(`filter ${spread.join('×')}`, (w) =>
    spreadOut(w.transpose([2, 3, 1, 0]), spread),
  ) as tf.Tensor4D;
}

/** [in · multiplier, 1, kh, kw] to [kh, kw, in, multiplier]. */
function depthwiseFilterOf(weight: Value, channels: number, spread: Pair): tf.Tensor4D {
  const [out, , height, width] = weight.dims as [number, number, number, number];
  return weight.form(`depthwise filter ${spread.join('×')}`, (w) =>
    spreadOut(w.reshape([channels, out / channels, height, width]).transpose([2, 3, 0, 1]), spread),
  ) as tf.Tensor4D;
}

type Padding = 'valid' | [Pair, Pair, Pair, Pair];

function paddingOf({ pads }: Window): Padding {
  const [top, left, bottom, right] = pads as [number, number, number, number];
  if (pads.every((size) => size === 0)) return 'valid';
  return [
    [0, 0],
    [top, bottom],
    [left, right],
    [0, 0],
  ];
}

const isOne = ([down, across]: Pair) => down === 1 && across === 1;

function withBias(y: tf.Tensor, bias: Value | undefined): tf.Tensor {
  return bias === undefined ? y : tf.add(y, bias.plain());
}

/** Splits images and filters, whose last axes hold the groups, and joins what comes out. */
function byGroups(
  x: tf.Tensor4D,
  filter: tf.Tensor4D,
  group: number,
  compute: (x: tf.Tensor4D, filter: tf.Tensor4D) => tf.Tensor4D,
): tf.Tensor4D {
  if (group === 1) return compute(x, filter);
  const images: tf.Tensor4D[] = tf.split(x, group, 3);
  const filters: tf.Tensor4D[] = tf.split(filter, group, 3);
  return tf.concat(
    images.map((image, index) => compute(image, filters[index]!)),
    3,
  );
}

function depthwise(settings: ConvolutionSettings, channels: number): Kernel {
  const { strides, window, dilations } = settings;
  const padding = paddingOf(window);
  // TensorFlow's own wants equal strides; uneven ones are rare enough to compute more and take every n-th.
  const even = strides[0] === strides[1];
  return ([x, weight, bias]) => {
    const filter = depthwiseFilterOf(weight!, channels, dilations);
    const images = x!.channelsLast() as tf.Tensor4D;
    const full = tf.depthwiseConv2d(images, filter, even ? strides : [1, 1], padding);
    const y = even ? full : tf.stridedSlice(full, [0, 0, 0, 0], full.shape, [1, ...strides, 1]);
    return [channelsLast(withBias(y, bias))];
  };
}

const conv: Operator = (request) => {
  const settings = settingsOf(request);
  const { window, group, strides, dilations } = settings;
  const channels = request.inputs[0]!.dims[1]!;
  if (group > 1 && group === channels) return depthwise(settings, channels);
  const padding = paddingOf(window);
  const spread: Pair = isOne(strides) ? [1, 1] : dilations;
  const left: Pair = isOne(strides) ? dilations : [1, 1];
  return ([x, weight, bias]) => {
    const filter = filterOf(weight!, spread);
    const images = x!.channelsLast() as tf.Tensor4D;
    const y = byGroups(images, filter, group, (image, part) =>
      tf.conv2d(image, part, strides, padding, 'NHWC', left),
    );
    return [channelsLast(withBias(y, bias))];
  };
};

/** Takes `size` places from `start` on; beyond the end of `full` there are zeros. */
function windowOfOutput(full: tf.Tensor4D, start: Pair, size: Pair): tf.Tensor4D {
  const missing = [0, 1].map((axis) => Math.max(0, start[axis]! + size[axis]! - full.shape[axis + 1]!));
  const padded = missing.some((count) => count > 0)
    ? tf.pad(full, [
        [0, 0],
        [0, missing[0]!],
        [0, missing[1]!],
        [0, 0],
      ])
    : full;
  if (padded.shape[1] === size[0] && padded.shape[2] === size[1]) return padded;
  return tf.slice(padded, [0, ...start, 0], [padded.shape[0], ...size, padded.shape[3]]);
}

/**
 * TensorFlow's is the gradient of a convolution without padding; what our pads cut off is cut off afterwards.
 * Rows left over by the stride (output_padding) are part of its output shape up to stride − 1.
 */
const convTranspose: Operator = (request) => {
  const { window, group, strides, dilations, outputSize } = settingsOf(request);
  const [batch, , ...inputSize] = request.inputs[0]!.dims as [number, number, number, number];
  const outChannels = request.inputs[1]!.dims[1]!;
  const start: Pair = [window.pads[0]!, window.pads[1]!];
  const fullSize = [0, 1].map((axis) => {
    const reach = window.dilations[axis]! * (window.kernel[axis]! - 1) + 1;
    const covered = (inputSize[axis]! - 1) * window.strides[axis]! + reach;
    const left = start[axis]! + outputSize[axis]! - covered;
    return covered + Math.min(Math.max(left, 0), window.strides[axis]! - 1);
  }) as Pair;
  return ([x, weight, bias]) => {
    const filter = filterOf(weight!, dilations);
    const y = byGroups(x!.channelsLast() as tf.Tensor4D, filter, group, (image, part) =>
      tf.conv2dTranspose(image, part, [batch, ...fullSize, outChannels], strides, 'valid'),
    );
    return [channelsLast(withBias(windowOfOutput(y, start, outputSize), bias))];
  };
};

export const convolutionOperators: OperatorTable = { Conv: conv, ConvTranspose: convTranspose };
