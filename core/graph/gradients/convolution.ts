/** Gradients of convolutions. */
import { AppError } from '../../shared/errors.ts';
import { elementCount, floatTensor, type Tensor } from '../../shared/tensor.ts';
import { integerOf } from '../attributes.ts';
import type { GraphNode } from '../graph.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { type Window, windowOf } from '../infer-convolution.ts';
import type { GradientRule } from './gradient-rule.ts';

/** Extent of a dilated kernel along one axis. */
function reachOf(window: Window, axis: number): number {
  return window.dilations[axis]! * (window.kernel[axis]! - 1) + 1;
}

/** Pads with which the turned kernel leads from the output back to the input; undefined when one is negative. */
function turnedPads(window: Window): number[] | undefined {
  const rest = window.pads.map((pad, side) => reachOf(window, side % 2) - 1 - pad);
  return rest.every((size) => size >= 0) ? rest : undefined;
}

/** [out, in, kh, kw] to [in, out, kh, kw] with the kernel turned by 180 degrees. */
function turnKernel(weight: Tensor): Tensor {
  const [out, channels, height, width] = weight.dims as [number, number, number, number];
  const area = height * width;
  const turned = new Float32Array(elementCount(weight.dims));
  for (let o = 0; o < out; o++) {
    for (let c = 0; c < channels; c++) {
      const from = (o * channels + c) * area;
      const to = (c * out + o) * area;
      for (let k = 0; k < area; k++) turned[to + k] = Number(weight.data[from + area - 1 - k]);
    }
  }
  return floatTensor([channels, out, height, width], turned);
}

function turnedKernel(builder: GraphBuilder, weight: string): string {
  const constant = builder.constantOf(weight);
  if (constant !== undefined) return builder.constant(turnKernel(constant));
  const swapped = builder.transpose(weight, [1, 0, 2, 3]);
  const [, , height, width] = builder.dimsOf(weight) as [number, number, number, number];
  if (height === 1 && width === 1) return swapped;
  return builder.slice(swapped, [-1, -1], [-height - 1, -width - 1], [2, 3], [-1, -1]);
}

/** d loss / d input of a convolution: at stride 1 a convolution itself, which is faster than ConvTranspose. */
function inputGradient(builder: GraphBuilder, node: GraphNode, gradient: string): string {
  const [x, weight] = node.inputs as [string, string];
  const window = windowOf(node.attributes, builder.dimsOf(weight).slice(2));
  const group = integerOf(node.attributes, 'group', 1);
  const rest = turnedPads(window);
  if (group === 1 && rest !== undefined && window.strides.every((s) => s === 1)) {
    const turned = turnedKernel(builder, weight);
    return builder.conv(gradient, turned, { pads: rest, dilations: window.dilations });
  }
  const size = builder.dimsOf(x).slice(2);
  const outputPadding = builder
    .dimsOf(gradient)
    .slice(2)
    .map((count, axis) => {
      const covered = (count - 1) * window.strides[axis]! + reachOf(window, axis);
      return size[axis]! + window.pads[axis]! + window.pads[axis + 2]! - covered;
    });
  const { strides, pads, dilations } = window;
  return builder.convTranspose(gradient, weight, { strides, pads, dilations, outputPadding, group });
}

/** Up to this many places per picture one product over the whole batch beats one per picture (measured). */
const smallArea = 300;

/** Cuts out of `padded` what each kernel position sees, positions joined along `axis`. */
function cutPositions(
  builder: GraphBuilder,
  padded: string,
  starts: readonly (readonly [number, number])[],
  size: readonly [number, number],
  strides: readonly number[],
  axis: number,
): string {
  const cuts = starts.map(([row, column]) => {
    const ends = [row + (size[0] - 1) * strides[0]! + 1, column + (size[1] - 1) * strides[1]! + 1];
    return builder.slice(padded, [row, column], ends, [2, 3], strides);
  });
  return cuts.length === 1 ? cuts[0]! : builder.concat(cuts, axis);
}

/**
 * d loss / d weight [out, in, kh, kw] of a convolution from its input and the gradient of its output: for
 * every kernel position a product of the two, one shifted against the other. The side with fewer channels
 * is the one shifted and copied: for LoRA's factor A that is the gradient, with r channels only.
 */
function weightGradient(builder: GraphBuilder, x: string, gradient: string, window: Window): string {
  const [batch, channels, ...inputSize] = builder.dimsOf(x) as [number, number, number, number];
  const [, out, ...outputSize] = builder.dimsOf(gradient) as [number, number, number, number];
  const [rows, columns] = window.kernel as [number, number];
  const rest = turnedPads(window);
  const shiftGradient = out < channels && rest !== undefined && window.strides.every((s) => s === 1);
  const [moving, still] = shiftGradient ? [gradient, x] : [x, gradient];
  const size = shiftGradient ? inputSize : outputSize;
  const area = size[0] * size[1];
  const wholeBatch = area <= smallArea;
  const arranged = (value: string) => (wholeBatch ? builder.transpose(value, [1, 0, 2, 3]) : value);
  const starts = Array.from({ length: rows * columns }, (_, position): [number, number] => {
    const [row, column] = [Math.floor(position / columns), position % columns];
    const [i, j] = shiftGradient ? [rows - 1 - row, columns - 1 - column] : [row, column];
    return [i * window.dilations[0]!, j * window.dilations[1]!];
  });
  const padded = padPicture(builder, arranged(moving), shiftGradient ? rest : window.pads);
  const cuts = cutPositions(builder, padded, starts, size, window.strides, wholeBatch ? 0 : 1);
  const total = wholeBatch
    ? productOverBatch(builder, cuts, arranged(still), batch * area)
    : sumOfProducts(builder, cuts, still, [batch, area]);
  if (shiftGradient) {
    return builder.transpose(builder.reshape(total, [rows, columns, out, channels]), [2, 3, 0, 1]);
  }
  return builder.transpose(builder.reshape(total, [rows, columns, channels, out]), [3, 2, 0, 1]);
}

/** Zeros around a picture; nothing is appended when there are none. @param pads [top, left, bottom, right] */
function padPicture(builder: GraphBuilder, x: string, pads: readonly number[]): string {
  const [top, left, bottom, right] = pads as [number, number, number, number];
  return pads.some((size) => size > 0) ? builder.pad(x, [0, 0, top, left, 0, 0, bottom, right]) : x;
}

/** [a, batch, …] and [b, batch, …] to their product [a, b] over all else. */
function productOverBatch(builder: GraphBuilder, a: string, b: string, inner: number): string {
  const matrix = (value: string) => builder.reshape(value, [-1, inner]);
  return builder.gemm(matrix(a), matrix(b), undefined, { transB: true });
}

/** [batch, a, …] and [batch, b, …] to the sum over the batch of their products [a, b]. */
function sumOfProducts(builder: GraphBuilder, a: string, b: string, [batch, area]: [number, number]): string {
  const matrices = (value: string) => builder.reshape(value, [batch, -1, area]);
  const products = builder.matMul(matrices(a), builder.transpose(matrices(b), [0, 2, 1]));
  return builder.reduceSum(products, [0], false);
}

function refuseGroups(node: GraphNode): void {
  if (integerOf(node.attributes, 'group', 1) === 1) return;
  throw new AppError(
    'OPERATOR_UNSUPPORTED',
    `The weights of the grouped convolution ${node.name} cannot be trained.`,
  );
}

const conv: GradientRule = ({ builder, node, gradient, needed }) => {
  const [x, weight] = node.inputs as [string, string];
  if (needed[1]) refuseGroups(node);
  const window = windowOf(node.attributes, builder.dimsOf(weight).slice(2));
  return [
    needed[0] ? inputGradient(builder, node, gradient) : undefined,
    needed[1] ? weightGradient(builder, x, gradient, window) : undefined,
    needed[2] ? builder.reduceSum(gradient, [0, 2, 3], false) : undefined,
  ];
};

/** The mirror of Conv: its input gradient is a convolution, and in its weight gradient the roles are exchanged. */
const convTranspose: GradientRule = ({ builder, node, gradient, needed }) => {
  const [x, weight] = node.inputs as [string, string];
  if (needed[1]) refuseGroups(node);
  const window = windowOf(node.attributes, builder.dimsOf(weight).slice(2));
  const { strides, pads, dilations } = window;
  const group = integerOf(node.attributes, 'group', 1);
  return [
    needed[0] ? builder.conv(gradient, weight, { strides, pads, dilations, group }) : undefined,
    needed[1] ? weightGradient(builder, gradient, x, window) : undefined,
    needed[2] ? builder.reduceSum(gradient, [0, 2, 3], false) : undefined,
  ];
};

export const convolutionGradients: Readonly<Record<string, GradientRule>> = {
  Conv: conv,
  ConvTranspose: convTranspose,
};
