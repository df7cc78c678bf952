/** Convolutions. */
import { elementCount, floatTensor, type Tensor } from '../../shared/tensor.ts';
import { plural } from '../../shared/text.ts';
import { integerOf, integersOf } from '../attributes.ts';
import type { OperatorBuilder } from '../operator-builder.ts';
import { type GroupedWindow, weightGradient } from './convolution-weights.ts';
import {
  type GradientRequest,
  type GradientRule,
  type InferenceRule,
  inputOf,
  mismatch,
  type OperatorRequest,
  type OperatorTable,
  optionalInput,
} from './operator.ts';
import { reshaped } from './shared-nodes.ts';
import { checkedWindow, checkWindow, leftover, reachOf, slide, turnedPads, windowOf } from './window.ts';

function groupOf(request: OperatorRequest): number {
  const group = integerOf(request.attributes, 'group', 1);
  if (!Number.isSafeInteger(group) || group < 1)
    throw mismatch(request, `it cannot have ${plural(group, 'group')}`);
  return group;
}

/** @throws AppError SHAPE_MISMATCH unless a bias has one value per output channel */
function checkBias(request: OperatorRequest, channels: number): void {
  const bias = optionalInput(request, 2);
  if (bias !== undefined && bias.dims.join() !== `${channels}`) {
    throw mismatch(request, 'the bias needs one value per output channel');
  }
}

const inferConv: InferenceRule = (request) => {
  const [x, w] = [inputOf(request, 0), inputOf(request, 1)];
  checkWindow(request, x.dims.length);
  const group = groupOf(request);
  if (w.dims.length !== 4 || x.dims[1] !== w.dims[1]! * group || w.dims[0]! % group !== 0) {
    throw mismatch(request, 'the channels do not match');
  }
  checkBias(request, w.dims[0]!);
  const spatial = slide(request, x.dims.slice(2), checkedWindow(request, w.dims.slice(2)));
  return [{ dtype: x.dtype, dims: [x.dims[0]!, w.dims[0]!, ...spatial] }];
};

const inferConvTranspose: InferenceRule = (request) => {
  const [x, w] = [inputOf(request, 0), inputOf(request, 1)];
  checkWindow(request, x.dims.length);
  const group = groupOf(request);
  if (w.dims.length !== 4 || x.dims[1] !== w.dims[0] || x.dims[1]! % group !== 0) {
    throw mismatch(request, 'the channels do not match');
  }
  const channels = w.dims[1]! * group;
  checkBias(request, channels);
  const window = checkedWindow(request, w.dims.slice(2));
  const extra = integersOf(request.attributes, 'output_padding', [0, 0]);
  if (extra.some((size, axis) => size < 0 || size >= window.strides[axis]!) || extra.length !== 2) {
    throw mismatch(request, 'output_padding needs to be less than the stride');
  }
  if (request.attributes['output_shape'] !== undefined) {
    throw mismatch(request, 'output_shape is not supported; its pads need to be given');
  }
  const spatial = x.dims.slice(2).map((size, axis) => {
    const full = window.strides[axis]! * (size - 1) + reachOf(window, axis) + extra[axis]!;
    return full - window.pads[axis]! - window.pads[axis + 2]!;
  });
  if (spatial.some((size) => size <= 0)) throw mismatch(request, 'the output would be empty');
  return [{ dtype: x.dtype, dims: [x.dims[0]!, channels, ...spatial] }];
};

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

function turnedKernel(builder: OperatorBuilder, weight: string, group: number): string {
  const constant = builder.constantOf(weight);
  if (constant !== undefined) return builder.constant(turnKernel(constant, group));
  const [total, channels, height, width] = builder.dimsOf(weight) as [number, number, number, number];
  const swapped = swapWithinGroups(builder, weight, [group, total / group, channels, height, width]);
  if (height === 1 && width === 1) return swapped;
  return builder.slice(swapped, [-1, -1], [-height - 1, -width - 1], [2, 3], [-1, -1]);
}

function swapWithinGroups(
  builder: OperatorBuilder,
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
function inputGradient(
  { builder, node, gradient }: GradientRequest,
  { group, ...window }: GroupedWindow,
): string {
  const [x, weight] = node.inputs as [string, string];
  const rest = turnedPads(window);
  const size = builder.dimsOf(gradient).slice(2);
  // Kernels of groups are small, and WebGPU computes some of their ConvTransposes wrongly (webgpu-faults.ts).
  const turnsEachStep =
    group === 1 && builder.constantOf(weight) === undefined && elementCount(window.kernel) > 1;
  const slides = rest !== undefined && window.strides.every((s) => s === 1);
  if (slides && !(turnsEachStep && elementCount(size) <= fewPlaces)) {
    const turned = turnedKernel(builder, weight, group);
    return builder.conv(gradient, turned, { pads: rest, dilations: window.dilations, group });
  }
  const outputPadding = leftover(window, builder.dimsOf(x).slice(2), size);
  const { strides, pads, dilations } = window;
  return builder.convTranspose(gradient, weight, { strides, pads, dilations, outputPadding, group });
}

/** What the two operators, of which each is the other's mirror, have in common. */
function through(
  toInput: (request: GradientRequest, window: GroupedWindow) => string,
  toWeight: (request: GradientRequest, window: GroupedWindow) => string,
): GradientRule {
  return (request) => {
    const { builder, node, gradient, needed } = request;
    const window = {
      ...windowOf(node.attributes, builder.dimsOf(node.inputs[1]!).slice(2)),
      group: integerOf(node.attributes, 'group', 1),
    };
    return [
      needed[0] ? toInput(request, window) : undefined,
      needed[1] ? toWeight(request, window) : undefined,
      needed[2] ? builder.reduceSum(gradient, [0, 2, 3], false) : undefined,
    ];
  };
}

export const convolutionOperators: OperatorTable = {
  Conv: {
    trainable: 'both',
    infer: inferConv,
    gradient: through(inputGradient, ({ builder, node, gradient }, window) =>
      weightGradient(builder, node.inputs[0]!, gradient, window),
    ),
  },
  // Its input gradient is a convolution, and in its weight gradient the roles are exchanged.
  ConvTranspose: {
    trainable: 'both',
    infer: inferConvTranspose,
    gradient: through(
      ({ builder, node, gradient }, { strides, pads, dilations, group }) =>
        builder.conv(gradient, node.inputs[1]!, { strides, pads, dilations, group }),
      ({ builder, node, gradient }, window) => weightGradient(builder, gradient, node.inputs[0]!, window),
    ),
  },
};
