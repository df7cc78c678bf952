/** Gradients of operators that only move, cut, join or repeat values. */
import { elementCount } from '../../shared/tensor.ts';
import { integerOf, integersOf } from '../attributes.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { resolveSlice, type SlicedAxis } from '../infer-shape.ts';
import { filled, type GradientRequest, type GradientRule, reshaped, sumTo } from './gradient-rule.ts';

const toInputShape: GradientRule = ({ builder, node, gradient }) => [
  reshaped(builder, gradient, builder.dimsOf(node.inputs[0]!)),
];

const transpose: GradientRule = ({ builder, node, gradient }) => {
  const rank = builder.dimsOf(gradient).length;
  const reversed = Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  const permutation = integersOf(node.attributes, 'perm', reversed);
  const inverse = permutation.map((_, axis) => permutation.indexOf(axis));
  return [builder.transpose(gradient, inverse)];
};

function constantIntegers(builder: GraphBuilder, name: string | undefined): number[] | undefined {
  return name ? Array.from(builder.constantOf(name)!.data, Number) : undefined;
}

function constantIfKnown(builder: GraphBuilder, name: string): number[] | undefined {
  const tensor = builder.constantOf(name);
  return tensor && Array.from(tensor.data, Number);
}

/** Puts `step - 1` zeros behind every element of an axis. */
function spaceOut(builder: GraphBuilder, value: string, axis: number, step: number): string {
  const dims = builder.dimsOf(value);
  const split = [...dims.slice(0, axis + 1), 1, ...dims.slice(axis + 1)];
  const pads = new Array<number>(2 * split.length).fill(0);
  pads[split.length + axis + 1] = step - 1;
  const spaced = builder.pad(builder.reshape(value, split), pads);
  return builder.reshape(spaced, [...dims.slice(0, axis), dims[axis]! * step, ...dims.slice(axis + 1)]);
}

/** Puts the gradient of one sliced axis back to where its elements came from, zeros elsewhere. */
function unslice(builder: GraphBuilder, gradient: string, cut: SlicedAxis, size: number): string {
  const { axis, count } = cut;
  const step = Math.abs(cut.step);
  let value = gradient;
  if (cut.step < 0) value = builder.slice(value, [-1], [-count - 1], [axis], [-1]);
  if (step > 1) {
    const spaced = spaceOut(builder, value, axis, step);
    value = builder.slice(spaced, [0], [(count - 1) * step + 1], [axis]);
  }
  const before = cut.step < 0 ? cut.start - (count - 1) * step : cut.start;
  const after = size - before - ((count - 1) * step + 1);
  if (before === 0 && after === 0) return value;
  const rank = builder.dimsOf(value).length;
  const pads = new Array<number>(2 * rank).fill(0);
  pads[axis] = before;
  pads[rank + axis] = after;
  return builder.pad(value, pads);
}

const slice: GradientRule = ({ builder, node, gradient }) => {
  const dims = builder.dimsOf(node.inputs[0]!);
  const [starts, ends, axes, steps] = node.inputs.slice(1).map((name) => constantIntegers(builder, name));
  const cuts = resolveSlice(dims, starts!, ends!, axes ?? starts!.map((_, axis) => axis), steps ?? []);
  if (cuts.some((cut) => cut.count === 0)) return [filled(builder, dims, 0)];
  return [cuts.reduce((value, cut) => unslice(builder, value, cut, dims[cut.axis]!), gradient)];
};

const concat: GradientRule = ({ builder, node, gradient, needed }) => {
  const rank = builder.dimsOf(gradient).length;
  const given = integerOf(node.attributes, 'axis', 0);
  const axis = given < 0 ? given + rank : given;
  let start = 0;
  return node.inputs.map((input, index) => {
    const from = start;
    start += builder.dimsOf(input)[axis]!;
    return needed[index] ? builder.slice(gradient, [from], [start], [axis]) : undefined;
  });
};

const split: GradientRule = ({ builder, node, gradients }) => {
  const pieces = node.outputs.map(
    (output, index) => gradients[index] ?? filled(builder, builder.dimsOf(output), 0),
  );
  return [builder.concat(pieces, integerOf(node.attributes, 'axis', 0))];
};

const pad: GradientRule = ({ builder, node, gradient }) => {
  const pads = constantIntegers(builder, node.inputs[1])!;
  if (pads.some((size) => size < 0))
    return [
      builder.pad(
        gradient,
        pads.map((size) => -size),
      ),
    ];
  const dims = builder.dimsOf(node.inputs[0]!);
  const starts = pads.slice(0, dims.length);
  return [
    builder.slice(
      gradient,
      starts,
      dims.map((size, axis) => starts[axis]! + size),
    ),
  ];
};

/** Evenly stepping indices as what a slice takes; undefined for any others. */
function asSlice(indices: readonly number[], axis: number): SlicedAxis | undefined {
  const [start, second] = indices;
  if (start === undefined) return undefined;
  const step = second === undefined ? 1 : second - start;
  if (step === 0 || indices.some((index, place) => index !== start + place * step)) return undefined;
  return { axis, start, step, count: indices.length };
}

/** Evenly stepping indices are put back in their places; others go through {@link gatheredRows}. */
const gather: GradientRule = (request: GradientRequest) => {
  const { builder: b, node, gradient } = request;
  const dims = b.dimsOf(node.inputs[0]!);
  const indices = node.inputs[1]!;
  const given = integerOf(node.attributes, 'axis', 0);
  const axis = given < 0 ? given + dims.length : given;
  const size = dims[axis]!;
  const known = constantIfKnown(b, indices)?.map((index) => (index < 0 ? index + size : index));
  const cut = known && asSlice(known, axis);
  if (cut === undefined) return [gatheredRows(request, axis)];
  const taken = [...dims.slice(0, axis), cut.count, ...dims.slice(axis + 1)];
  return [unslice(b, reshaped(b, gradient, taken), cut, size)];
};

/** As a product with one-hot rows, which adds up the gradients of an index that occurs twice. */
function gatheredRows({ builder: b, node, gradient }: GradientRequest, axis: number): string {
  const dims = b.dimsOf(node.inputs[0]!);
  const indices = node.inputs[1]!;
  const count = elementCount(b.dimsOf(indices));
  const before = elementCount(dims.slice(0, axis));
  const after = elementCount(dims.slice(axis + 1));
  // Indices may count from the end; OneHot takes them so as well.
  const rows = b.oneHot(reshaped(b, indices, [count]), dims[axis]!);
  const taken = reshaped(b, gradient, [before, count, after]);
  return reshaped(b, b.matMul(b.transpose(rows, [1, 0]), taken), dims);
}

export const shapeGradients: Readonly<Record<string, GradientRule>> = {
  Reshape: toInputShape,
  Flatten: toInputShape,
  Squeeze: toInputShape,
  Unsqueeze: toInputShape,
  Transpose: transpose,
  Slice: slice,
  Concat: concat,
  Split: split,
  Pad: pad,
  Gather: gather,
  Expand: ({ builder, node, gradient }) => [sumTo(builder, gradient, builder.dimsOf(node.inputs[0]!))],
};
