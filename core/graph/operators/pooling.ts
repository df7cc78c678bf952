/** Pooling. */
import { elementCount, floatTensor } from '../../shared/tensor.ts';
import { integerOf, integersOf } from '../attributes.ts';
import type { OperatorBuilder } from '../operator-builder.ts';
import {
  type Composition,
  type GradientRequest,
  type GradientRule,
  type InferenceRule,
  inputName,
  inputOf,
  mismatch,
  type OperatorTable,
} from './operator.ts';
import { asMask, expanded, filled, repeatEach, scaled } from './shared-nodes.ts';
import { checkedWindow, checkWindow, leftover, slide, turnedPads, type Window, windowOf } from './window.ts';

const inferPool: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  checkWindow(request, x.dims.length);
  if (request.outputCount !== 1) throw mismatch(request, 'only the pooled values are supported as output');
  const window = checkedWindow(request, integersOf(request.attributes, 'kernel_shape', []));
  return [{ dtype: x.dtype, dims: [...x.dims.slice(0, 2), ...slide(request, x.dims.slice(2), window)] }];
};

const inferGlobalPool: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  if (x.dims.length < 3) throw mismatch(request, 'there are no axes to pool');
  return [{ dtype: x.dtype, dims: [...x.dims.slice(0, 2), ...x.dims.slice(2).map(() => 1)] }];
};

interface PoolGeometry {
  readonly window: Window;
  readonly batch: number;
  readonly channels: number;
  readonly inputSize: readonly number[];
  readonly outputSize: readonly number[];
}

function geometryOf({ builder, node }: GradientRequest): PoolGeometry {
  const dims = builder.dimsOf(node.inputs[0]!);
  return {
    window: windowOf(node.attributes, integersOf(node.attributes, 'kernel_shape', [])),
    batch: dims[0]!,
    channels: dims[1]!,
    inputSize: dims.slice(2),
    outputSize: builder.dimsOf(node.outputs[0]!).slice(2),
  };
}

/** Windows that cover the image side by side, without padding between them. */
function isTiled({ window }: PoolGeometry): boolean {
  return (
    window.pads.every((size) => size === 0) &&
    window.dilations.every((size) => size === 1) &&
    window.kernel.every((size, axis) => size === window.strides[axis])
  );
}

/**
 * Adds window values back to the input they came from. `values` is [batch, channels, positions, oh, ow];
 * one-hot kernels put each position in its place, so this is one ConvTranspose over batch · channels.
 */
function scatterWindows(
  builder: OperatorBuilder,
  values: string,
  kernels: string,
  geometry: PoolGeometry,
): string {
  const { window, batch, channels, inputSize, outputSize } = geometry;
  const positions = builder.dimsOf(kernels)[0]!;
  const images = builder.reshape(values, [batch * channels, positions, ...outputSize]);
  const { strides, pads, dilations } = window;
  const outputPadding = leftover(window, inputSize, outputSize);
  const scattered = builder.convTranspose(images, kernels, { strides, pads, dilations, outputPadding });
  return builder.reshape(scattered, [batch, channels, ...inputSize]);
}

/** A kernel per position with a one in that place. */
function oneHotKernels(builder: OperatorBuilder, [height, width]: readonly [number, number]): string {
  const positions = height * width;
  const data = new Float32Array(positions * positions);
  for (let position = 0; position < positions; position++) data[position * (positions + 1)] = 1;
  return builder.constant({ dtype: 'float32', dims: [positions, 1, height, width], data });
}

/** The first of equal maxima (row by row) takes the whole gradient. */
const throughMaxPool: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const geometry = geometryOf(request);
  const { window, batch, channels, outputSize } = geometry;
  const [top, left, bottom, right] = window.pads as [number, number, number, number];
  const padded = window.pads.some((size) => size > 0);
  // Lower than any activation, so that padding never wins.
  const x = padded
    ? b.pad(node.inputs[0]!, [0, 0, top, left, 0, 0, bottom, right], -3.4e38)
    : node.inputs[0]!;
  const [kernelHeight, kernelWidth] = window.kernel as [number, number];
  const positions = kernelHeight * kernelWidth;
  let remaining = gradient;
  const parts: string[] = [];
  for (let position = 0; position < positions; position++) {
    const [row, column] = [Math.floor(position / kernelWidth), position % kernelWidth];
    const start = [row * window.dilations[0]!, column * window.dilations[1]!];
    const end = start.map((from, axis) => from + (outputSize[axis]! - 1) * window.strides[axis]! + 1);
    const seen = b.slice(x, start, end, [2, 3], window.strides);
    const part = b.mul(remaining, asMask(b, b.equal(seen, node.outputs[0]!)));
    if (position < positions - 1) remaining = b.sub(remaining, part);
    parts.push(b.reshape(part, [batch, channels, 1, ...outputSize]));
  }
  const kernels = oneHotKernels(b, [kernelHeight, kernelWidth]);
  return [scatterWindows(b, b.concat(parts, 2), kernels, geometry)];
};

/** One over how many values each window counts, [1, 1, oh, ow]; 0 for a window in the padding alone. */
function windowShares({ window, inputSize, outputSize }: PoolGeometry, countPadding: boolean): Float32Array {
  const along = [0, 1].map((axis) =>
    Array.from({ length: outputSize[axis]! }, (_, index) => {
      let count = 0;
      for (let k = 0; k < window.kernel[axis]!; k++) {
        const position = index * window.strides[axis]! + k * window.dilations[axis]! - window.pads[axis]!;
        if (countPadding || (position >= 0 && position < inputSize[axis]!)) count++;
      }
      return count;
    }),
  );
  const share = (count: number) => (count === 0 ? 0 : 1 / count);
  return Float32Array.from(along[0]!.flatMap((rows) => along[1]!.map((columns) => share(rows * columns))));
}

/** Each window's share of its gradient goes to all that it covers. */
const throughAveragePool: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const geometry = geometryOf(request);
  const { window, inputSize, outputSize } = geometry;
  const shares = windowShares(geometry, integerOf(node.attributes, 'count_include_pad', 0) !== 0);
  const even = shares.every((share) => share === shares[0]);
  const weights = even ? b.scalar(shares[0]!) : b.constant(floatTensor([1, 1, ...outputSize], shares));
  if (isTiled(geometry)) {
    const covered = repeatEach(b, b.mul(gradient, weights), [1, 1, ...window.kernel]);
    const [bottom, right] = leftover(window, inputSize, outputSize) as [number, number];
    return [bottom + right > 0 ? b.pad(covered, [0, 0, 0, 0, 0, 0, bottom, right]) : covered];
  }
  const back = turnedPads(window);
  // Pads as wide as the kernel, which only a dilated window turns into, are refused by ONNX Runtime.
  const slides = back?.every((size, side) => size < window.kernel[side % 2]!);
  if (slides && window.strides.every((stride) => stride === 1)) {
    // The sum over the windows that cover a place is itself a window sliding over the gradient.
    const area = elementCount(window.kernel);
    const share = even ? gradient : b.mul(gradient, weights);
    const options = { pads: back!, dilations: window.dilations, countIncludePad: true };
    const averages = b.averagePool(share, window.kernel, options);
    return [scaled(b, averages, even ? area * shares[0]! : area)];
  }
  const kernels = filled(b, [1, 1, ...window.kernel], 1);
  return [scatterWindows(b, b.mul(gradient, weights), kernels, geometry)];
};

const throughGlobalAveragePool: GradientRule = ({ builder, node, gradient }) => {
  const dims = builder.dimsOf(node.inputs[0]!);
  return [expanded(builder, scaled(builder, gradient, 1 / elementCount(dims.slice(2))), dims)];
};

/** The largest value of each channel; equal ones share the gradient. */
const globalMaxPool: Composition = (request) => {
  const x = inputName(request, 0);
  const spatial = [...request.builder.dimsOf(x).keys()].slice(2);
  return [request.builder.reduceMax(x, spatial)];
};

export const poolingOperators: OperatorTable = {
  MaxPool: { trainable: 'input', infer: inferPool, gradient: throughMaxPool },
  AveragePool: { trainable: 'input', infer: inferPool, gradient: throughAveragePool },
  GlobalAveragePool: {
    trainable: 'input',
    fileAttributes: [],
    infer: inferGlobalPool,
    gradient: throughGlobalAveragePool,
  },
  GlobalMaxPool: { trainable: 'input', fileAttributes: [], compose: globalMaxPool },
};
