/** Gradients of convolutions. */
import { elementCount, floatTensor, type Tensor } from '../../shared/tensor.ts';
import { integerOf } from '../attributes.ts';
import type { GraphNode } from '../graph.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { reachOf, turnedPads, windowOf } from '../infer-convolution.ts';
import { weightGradient } from './convolution-weights.ts';
import { type GradientRule, reshaped } from './gradient-rule.ts';

/** [group · out, in, kh, kw] to [group · in, out, kh, kw] with the kernels turned by 180 degrees. */
function turnKernel(weight: Tensor, group: number): Tensor {
  const [total, channels, height, width] = weight.dims as [number, number, number, number];
  const area = height * width;
  const out = total / group;
  const turned = new Float32Array(elementCount(weight.dims));
  for (let o = 0; o < total; o++) {
    for (let c = 0; c < channels; c++) {
      const from = (o * channels + c) * area;
      const to = ((Math.floor(o / out) * channels + c) * out + (o % out)) * area;
      for (let k = 0; k < area; k++) turned[to + k] = Number(weight.data[from + area - 1 - k]);
    }
  }
  return floatTensor([group * channels, out, height, width], turned);
}

function turnedKernel(builder: GraphBuilder, weight: string, group: number): string {
  const constant = builder.constantOf(weight);
  if (constant !== undefined) return builder.constant(turnKernel(constant, group));
  const [total, channels, height, width] = builder.dimsOf(weight) as [number, number, number, number];
  const swapped = swapWithinGroups(builder, weight, [group, total / group, channels, height, width]);
  if (height === 1 && width === 1) return swapped;
  return builder.slice(swapped, [-1, -1], [-height - 1, -width - 1], [2, 3], [-1, -1]);
}

function swapWithinGroups(
  builder: GraphBuilder,
  weight: string,
  [group, out, channels, height, width]: readonly [number, number, number, number, number],
): string {
  if (group === 1) return builder.transpose(weight, [1, 0, 2, 3]);
  const dims = [group * channels, out, height, width];
  // Where a group has one channel on either side, the order of the values is the same.
  if (out === 1 || channels === 1) return reshaped(builder, weight, dims);
  const grouped = builder.reshape(weight, [group, out, channels, height, width]);
  return builder.reshape(builder.transpose(grouped, [0, 2, 1, 3, 4]), dims);
}

/**
 * Up to this many places per image turning a kernel that is fed takes longer than ConvTranspose, which needs none,
 * loses against Conv. Measured with face-resnet-128: at 4 × 4 places and 256 channels half of the time, at 8 × 8 and
 * 128 a fifth less, at 17 × 17 and 64 a tenth more.
 */
const fewPlaces = 100;

/** d loss / d input of a convolution: at stride 1 a convolution itself, as a rule faster than ConvTranspose. */
function inputGradient(builder: GraphBuilder, node: GraphNode, gradient: string): string {
  const [x, weight] = node.inputs as [string, string];
  const window = windowOf(node.attributes, builder.dimsOf(weight).slice(2));
  const group = integerOf(node.attributes, 'group', 1);
  const rest = turnedPads(window);
  const places = elementCount(builder.dimsOf(gradient).slice(2));
  // Kernels of groups are small, and WebGPU computes some of their ConvTransposes wrongly (webgpu-faults.ts).
  const turnsEachStep =
    group === 1 && builder.constantOf(weight) === undefined && elementCount(window.kernel) > 1;
  const slides = rest !== undefined && window.strides.every((s) => s === 1);
  if (slides && !(turnsEachStep && places <= fewPlaces)) {
    const turned = turnedKernel(builder, weight, group);
    return builder.conv(gradient, turned, { pads: rest, dilations: window.dilations, group });
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

const conv: GradientRule = ({ builder, node, gradient, needed }) => {
  const [x, weight] = node.inputs as [string, string];
  const window = windowOf(node.attributes, builder.dimsOf(weight).slice(2));
  const group = integerOf(node.attributes, 'group', 1);
  return [
    needed[0] ? inputGradient(builder, node, gradient) : undefined,
    needed[1] ? weightGradient(builder, x, gradient, { ...window, group }) : undefined,
    needed[2] ? builder.reduceSum(gradient, [0, 2, 3], false) : undefined,
  ];
};

/** The mirror of Conv: its input gradient is a convolution, and in its weight gradient the roles are exchanged. */
const convTranspose: GradientRule = ({ builder, node, gradient, needed }) => {
  const [x, weight] = node.inputs as [string, string];
  const window = windowOf(node.attributes, builder.dimsOf(weight).slice(2));
  const { strides, pads, dilations } = window;
  const group = integerOf(node.attributes, 'group', 1);
  return [
    needed[0] ? builder.conv(gradient, weight, { strides, pads, dilations, group }) : undefined,
    needed[1] ? weightGradient(builder, gradient, x, { ...window, group }) : undefined,
    needed[2] ? builder.reduceSum(gradient, [0, 2, 3], false) : undefined,
  ];
};

export const convolutionGradients: Readonly<Record<string, GradientRule>> = {
  Conv: conv,
  ConvTranspose: convTranspose,
};
