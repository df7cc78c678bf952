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
  const rest = [0, 1, 2, 3].map((side) => reachOf(window, side % 2) - 1 - window.pads[side]!);
  if (group === 1 && window.strides.every((s) => s === 1) && rest.every((size) => size >= 0)) {
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

/**
 * d loss / d weight [out, in, kh, kw] of a convolution from its input and the gradient of its output:
 * for every position in the kernel one matrix product of the output gradient with the input as seen from there.
 */
function weightGradient(builder: GraphBuilder, x: string, gradient: string, window: Window): string {
  const [batch, channels] = builder.dimsOf(x) as [number, number, number, number];
  const [, out, height, width] = builder.dimsOf(gradient) as [number, number, number, number];
  const [kernelHeight, kernelWidth] = window.kernel as [number, number];
  const [top, left, bottom, right] = window.pads as [number, number, number, number];
  const padded = window.pads.some((size) => size > 0)
    ? builder.pad(x, [0, 0, top, left, 0, 0, bottom, right])
    : x;
  const seen: string[] = [];
  for (let row = 0; row < kernelHeight; row++) {
    for (let column = 0; column < kernelWidth; column++) {
      const start = [row * window.dilations[0]!, column * window.dilations[1]!];
      const end = [
        start[0]! + (height - 1) * window.strides[0]! + 1,
        start[1]! + (width - 1) * window.strides[1]! + 1,
      ];
      seen.push(builder.slice(padded, start, end, [2, 3], window.strides));
    }
  }
  const columns = builder.reshape(seen.length === 1 ? seen[0]! : builder.concat(seen, 1), [
    batch,
    -1,
    height * width,
  ]);
  const rows = builder.reshape(gradient, [batch, out, height * width]);
  const products = builder.matMul(rows, builder.transpose(columns, [0, 2, 1]));
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
