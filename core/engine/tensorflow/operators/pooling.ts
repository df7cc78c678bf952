/** Pooling over windows and over whole images. */
import * as tf from '@tensorflow/tfjs';
import { integerOf, integersOf } from '../../../graph/attributes.ts';
import { type Window, windowOf } from '../../../graph/operators/window.ts';
import { elementCount } from '../../../shared/tensor.ts';
import { channelsLast, plain } from '../value.ts';
import { type NodeRequest, type Operator, type OperatorTable, unsupported } from './kernel.ts';

type Pair = [number, number];

interface PoolSettings {
  readonly window: Window;
  readonly kernel: Pair;
  readonly strides: Pair;
  readonly inputSize: Pair;
  readonly outputSize: Pair;
  /** Places around the image that windows see, per axis [before, after]. */
  readonly margins: readonly [Pair, Pair];
}

function settingsOf(request: NodeRequest): PoolSettings {
  const { dims } = request.inputs[0]!;
  if (dims.length !== 4) throw unsupported(request, 'only images of two dimensions are supported');
  if (request.node.outputs.filter((name) => name !== '').length > 1) {
    throw unsupported(request, 'it returns the pooled values only, not their indices');
  }
  const window = windowOf(request.attributes, integersOf(request.attributes, 'kernel_shape', []));
  const outputSize = request.outputs[0]!.dims.slice(2) as Pair;
  const inputSize = dims.slice(2) as Pair;
  const margins = [0, 1].map((axis): Pair => {
    const reach = window.dilations[axis]! * (window.kernel[axis]! - 1) + 1;
    const before = window.pads[axis]!;
    // A last window that starts inside may reach further than the pads say (ceil_mode).
    const seen = (outputSize[axis]! - 1) * window.strides[axis]! + reach;
    return [before, Math.max(window.pads[axis + 2]!, seen - before - inputSize[axis]!)];
  });
  return {
    window,
    kernel: window.kernel as Pair,
    strides: window.strides as Pair,
    inputSize,
    outputSize,
    margins: margins as [Pair, Pair],
  };
}

function surrounded(x: tf.Tensor4D, { margins: [rows, columns] }: PoolSettings, value: number): tf.Tensor4D {
  if ([...rows, ...columns].every((size) => size === 0)) return x;
  return tf.pad(x, [[0, 0], rows, columns, [0, 0]], value);
}

/** Lower than any activation, so that padding never wins. */
const lowest = -3.4028234663852886e38;

const isDilated = ({ window }: PoolSettings) => window.dilations.some((step) => step !== 1);

/** What each kernel position sees, position by position. */
function positionsOf(x: tf.Tensor4D, { window, kernel, strides, outputSize }: PoolSettings): tf.Tensor4D[] {
  const size = outputSize.map((count, axis) => (count - 1) * strides[axis]! + 1) as Pair;
  return Array.from({ length: elementCount(kernel) }, (_, position) => {
    const row = Math.floor(position / kernel[1]) * window.dilations[0]!;
    const column = (position % kernel[1]) * window.dilations[1]!;
    const seen = tf.slice(x, [0, row, column, 0], [x.shape[0], ...size, x.shape[3]]);
    return tf.stridedSlice(seen, [0, 0, 0, 0], seen.shape, [1, ...strides, 1]) as tf.Tensor4D;
  });
}

const maxPool: Operator = (request) => {
  const settings = settingsOf(request);
  return ([x]) => {
    const images = surrounded(x!.channelsLast() as tf.Tensor4D, settings, lowest);
    const y = isDilated(settings)
      ? positionsOf(images, settings).reduce((a, b) => tf.maximum(a, b))
      : tf.maxPool(images, settings.kernel, settings.strides, 'valid');
    return [channelsLast(y)];
  };
};

/** Each window's kernel area over the number of places that count in its mean, [1, oh, ow, 1]. */
function meanCorrection(settings: PoolSettings, countPadding: boolean): Float32Array {
  const { window, kernel, outputSize, inputSize } = settings;
  const counts = [0, 1].map((axis) =>
    Array.from({ length: outputSize[axis]! }, (_, index) => {
      const first = countPadding ? -window.pads[axis]! : 0;
      const end = inputSize[axis]! + (countPadding ? window.pads[axis + 2]! : 0);
      let count = 0;
      for (let k = 0; k < kernel[axis]!; k++) {
        const place = index * window.strides[axis]! + k * window.dilations[axis]! - window.pads[axis]!;
        if (place >= first && place < end) count++;
      }
      return count;
    }),
  );
  const area = elementCount(kernel);
  return Float32Array.from(
    counts[0]!.flatMap((rows) => counts[1]!.map((columns) => area / (rows * columns))),
  );
}

const averagePool: Operator = (request) => {
  const settings = settingsOf(request);
  const factors = meanCorrection(settings, integerOf(request.attributes, 'count_include_pad', 0) !== 0);
  const dims = [1, ...settings.outputSize, 1];
  const correction = factors.every((factor) => factor === 1)
    ? undefined
    : request.keep(dims, () => tf.tensor(factors, dims));
  return ([x]) => {
    const images = surrounded(x!.channelsLast() as tf.Tensor4D, settings, 0);
    const mean = isDilated(settings)
      ? tf.div(tf.addN(positionsOf(images, settings)), elementCount(settings.kernel))
      : tf.avgPool(images, settings.kernel, settings.strides, 'valid');
    return [channelsLast(correction === undefined ? mean : tf.mul(mean, correction.plain()))];
  };
};

/** Over everything behind the channels, whose axes stay with size 1. */
function wholeImage(reduce: (x: tf.Tensor, axes: number[]) => tf.Tensor): Operator {
  return () =>
    ([x]) => {
      if (x!.hasChannelsLast()) return [channelsLast(reduce(x!.channelsLast(), [1, 2]))];
      const axes = x!.dims.map((_, axis) => axis).slice(2);
      return [plain(reduce(x!.plain(), axes))];
    };
}

export const poolingOperators: OperatorTable = {
  MaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: wholeImage((x, axes) => tf.mean(x, axes, true)),
};
