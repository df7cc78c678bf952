/** Gradients of pooling. */
import { integerOf, integersOf } from '../attributes.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { type Window, windowOf } from '../infer-convolution.ts';
import { expanded, filled, type GradientRequest, type GradientRule, scaled } from './gradient-rule.ts';

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
  const outputPadding = outputSize.map((count, axis) => {
    const covered =
      (count - 1) * window.strides[axis]! + window.dilations[axis]! * (window.kernel[axis]! - 1) + 1;
    return inputSize[axis]! + window.pads[axis]! + window.pads[axis + 2]! - covered;
  });
  const images = builder.reshape(values, [batch * channels, positions, ...outputSize]);
  const { strides, pads, dilations } = window;
  const scattered = builder.convTranspose(images, kernels, { strides, pads, dilations, outputPadding });
  return builder.reshape(scattered, [batch, channels, ...inputSize]);
}

/** The first of equal maxima (row by row) takes the whole gradient. */
const maxPool: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const geometry = geometryOf(request);
  const { window, batch, channels, outputSize } = geometry;
  const [top, left, bottom, right] = window.pads as [number, number, number, number];
  // Lower than any activation, so that padding never wins.
  const x = b.pad(node.inputs[0]!, [0, 0, top, left, 0, 0, bottom, right], -3.4e38);
  const [kernelHeight, kernelWidth] = window.kernel as [number, number];
  const zero = b.scalar(0);
  let remaining = gradient;
  const parts: string[] = [];
  for (let row = 0; row < kernelHeight; row++) {
    for (let column = 0; column < kernelWidth; column++) {
      const start = [row * window.dilations[0]!, column * window.dilations[1]!];
      const end = start.map((from, axis) => from + (outputSize[axis]! - 1) * window.strides[axis]! + 1);
      const seen = b.slice(x, start, end, [2, 3], window.strides);
      const part = b.where(b.equal(seen, node.outputs[0]!), remaining, zero);
      remaining = b.sub(remaining, part);
      parts.push(b.reshape(part, [batch, channels, 1, ...outputSize]));
    }
  }
  const positions = kernelHeight * kernelWidth;
  const oneHot = new Float32Array(positions * positions);
  for (let position = 0; position < positions; position++) oneHot[position * (positions + 1)] = 1;
  const kernels = b.constant({
    dtype: 'float32',
    dims: [positions, 1, kernelHeight, kernelWidth],
    data: oneHot,
  });
  return [scatterWindows(b, b.concat(parts, 2), kernels, geometry)];
};

/** How many input values each window covers, [1, 1, oh, ow]. */
function windowCounts({ window, inputSize, outputSize }: PoolGeometry, countPadding: boolean): Float32Array {
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
  return Float32Array.from(along[0]!.flatMap((rows) => along[1]!.map((columns) => rows * columns)));
}

const averagePool: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const geometry = geometryOf(request);
  const counts = windowCounts(geometry, integerOf(node.attributes, 'count_include_pad', 0) !== 0);
  const share = b.div(
    gradient,
    b.constant({ dtype: 'float32', dims: [1, 1, ...geometry.outputSize], data: counts }),
  );
  const kernels = filled(b, [1, 1, ...geometry.window.kernel], 1);
  return [scatterWindows(b, share, kernels, geometry)];
};

const globalAveragePool: GradientRule = ({ builder, node, gradient }) => {
  const dims = builder.dimsOf(node.inputs[0]!);
  return [expanded(builder, scaled(builder, gradient, 1 / (dims[2]! * dims[3]!)), dims)];
};

export const poolingGradients: Readonly<Record<string, GradientRule>> = {
  MaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: globalAveragePool,
};
