/** Gradients of pooling. */
import { elementCount, floatTensor } from '../../shared/tensor.ts';
import { integerOf, integersOf } from '../attributes.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { reachOf, turnedPads, type Window, windowOf } from '../infer-convolution.ts';
import { repeatEach } from '../repeat.ts';
import { expanded, filled, type GradientRequest, type GradientRule, scaled } from './gradient-rule.ts';
import { asMask } from './masks.ts';

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

/** Rows and columns that no window reaches. */
function leftover({ window, inputSize, outputSize }: PoolGeometry): number[] {
  return outputSize.map((count, axis) => {
    const covered = (count - 1) * window.strides[axis]! + reachOf(window, axis);
    return inputSize[axis]! + window.pads[axis]! + window.pads[axis + 2]! - covered;
  });
}

/**
 * Adds window values back to the input they came from. `values` is [batch, channels, positions, oh, ow];
 * one-hot kernels put each position in its place, so this is one ConvTranspose over batch · channels.
 */
function scatterWindows(
  builder: GraphBuilder,
  values: string,
  kernels: string,
  geometry: PoolGeometry,
): string {
  const { window, batch, channels, inputSize, outputSize } = geometry;
  const positions = builder.dimsOf(kernels)[0]!;
  const images = builder.reshape(values, [batch * channels, positions, ...outputSize]);
  const { strides, pads, dilations } = window;
  const outputPadding = leftover(geometry);
  const scattered = builder.convTranspose(images, kernels, { strides, pads, dilations, outputPadding });
  return builder.reshape(scattered, [batch, channels, ...inputSize]);
}

/** A kernel per position with a one in that place. */
function oneHotKernels(builder: GraphBuilder, [height, width]: readonly [number, number]): string {
  const positions = height * width;
  const data = new Float32Array(positions * positions);
  for (let position = 0; position < positions; position++) data[position * (positions + 1)] = 1;
  return builder.constant({ dtype: 'float32', dims: [positions, 1, height, width], data });
}

/** The first of equal maxima (row by row) takes the whole gradient. */
const maxPool: GradientRule = (request) => {
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
const averagePool: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const geometry = geometryOf(request);
  const { window, outputSize } = geometry;
  const shares = windowShares(geometry, integerOf(node.attributes, 'count_include_pad', 0) !== 0);
  const even = shares.every((share) => share === shares[0]);
  const weights = even ? b.scalar(shares[0]!) : b.constant(floatTensor([1, 1, ...outputSize], shares));
  if (isTiled(geometry)) {
    const covered = repeatEach(b, b.mul(gradient, weights), [1, 1, ...window.kernel]);
    const [bottom, right] = leftover(geometry) as [number, number];
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

const globalAveragePool: GradientRule = ({ builder, node, gradient }) => {
  const dims = builder.dimsOf(node.inputs[0]!);
  return [expanded(builder, scaled(builder, gradient, 1 / elementCount(dims.slice(2))), dims)];
};

export const poolingGradients: Readonly<Record<string, GradientRule>> = {
  MaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: globalAveragePool,
};
