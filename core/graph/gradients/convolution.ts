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

/** Zeros around a picture, before and after each of its two axes; nothing is appended when there are none. */
function padPicture(builder: GraphBuilder, x: string, pads: readonly number[]): string {
  const [top, left, bottom, right] = pads as [number, number, number, number];
  return pads.some((size) => size > 0) ? builder.pad(x, [0, 0, top, left, 0, 0, bottom, right]) : x;
}

/**
 * The picture as seen from every position of the kernel, one after the other along the channels and
 * flattened: [batch, positions · channels, height · width].
 * @param start where the view from the kernel's position (row, column) begins
 */
function viewsOf(
  builder: GraphBuilder,
  picture: string,
  kernel: readonly number[],
  size: readonly [number, number],
  strides: readonly number[],
  start: (position: number, axis: number) => number,
): string {
  const views: string[] = [];
  for (let row = 0; row < kernel[0]!; row++) {
    for (let column = 0; column < kernel[1]!; column++) {
      const starts = [start(row, 0), start(column, 1)];
      const ends = starts.map((from, axis) => from + (size[axis]! - 1) * strides[axis]! + 1);
      views.push(builder.slice(picture, starts, ends, [2, 3], strides));
    }
  }
  const joined = views.length === 1 ? views[0]! : builder.concat(views, 1);
  return builder.reshape(joined, [builder.dimsOf(picture)[0]!, -1, size[0] * size[1]]);
}

/**
 * d loss / d weight [out, in, kh, kw] of a convolution from its input and the gradient of its output:
 * for every position in the kernel one matrix product of the output gradient with the input as seen from
 * there. At stride 1 the output gradient can be the one that is seen from everywhere, which copies much
 * less when it has fewer channels, as behind LoRA's first factor.
 */
function weightGradient(builder: GraphBuilder, x: string, gradient: string, window: Window): string {
  const [batch, channels, inputHeight, inputWidth] = builder.dimsOf(x) as [number, number, number, number];
  const [, out, height, width] = builder.dimsOf(gradient) as [number, number, number, number];
  const { kernel, dilations, strides, pads } = window;
  const [kernelHeight, kernelWidth] = kernel as [number, number];
  const rest = [0, 1, 2, 3].map((side) => reachOf(window, side % 2) - 1 - pads[side]!);
  if (out < channels && strides.every((stride) => stride === 1) && rest.every((size) => size >= 0)) {
    const padded = padPicture(builder, gradient, rest);
    const start = (position: number, axis: number) => reachOf(window, axis) - 1 - position * dilations[axis]!;
    const views = viewsOf(builder, padded, kernel, [inputHeight, inputWidth], strides, start);
    const rows = builder.reshape(x, [batch, channels, inputHeight * inputWidth]);
    const products = builder.matMul(views, builder.transpose(rows, [0, 2, 1]));
    const total = builder.reduceSum(products, [0], false);
    const byPosition = builder.reshape(total, [kernelHeight, kernelWidth, out, channels]);
    return builder.transpose(byPosition, [2, 3, 0, 1]);
  }
  const start = (position: number, axis: number) => position * dilations[axis]!;
  const views = viewsOf(builder, padPicture(builder, x, pads), kernel, [height, width], strides, start);
  const rows = builder.reshape(gradient, [batch, out, height * width]);
  const products = builder.matMul(rows, builder.transpose(views, [0, 2, 1]));
  const total = builder.reduceSum(products, [0], false);
  const byPosition = builder.reshape(total, [out, kernelHeight, kernelWidth, channels]);
  return builder.transpose(byPosition, [0, 3, 1, 2]);
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
