/** Operators that take values out of a tensor or join tensors. */
import { elementCount } from '../../shared/tensor.ts';
import { plural } from '../../shared/text.ts';
import { integerOf } from '../attributes.ts';
import type { OperatorBuilder } from '../operator-builder.ts';
import {
  constantIntegers,
  type GradientRequest,
  type GradientRule,
  type InferenceRule,
  inputName,
  inputOf,
  knownNumbers,
  mismatch,
  type OperatorRequest,
  type OperatorTable,
  requiredIntegers,
  resolveAxis,
} from './operator.ts';
import { filled, reshaped } from './shared-nodes.ts';

/** One axis of a Slice with everything resolved: it takes `count` elements from `start` by `step`. */
export interface SlicedAxis {
  readonly axis: number;
  readonly start: number;
  readonly step: number;
  readonly count: number;
}

/** Resolves negative and clamped bounds as the Slice operator does. */
export function resolveSlice(
  dims: readonly number[],
  starts: readonly number[],
  ends: readonly number[],
  axes: readonly number[],
  steps: readonly number[],
): SlicedAxis[] {
  return axes.map((given, index) => {
    const axis = given < 0 ? given + dims.length : given;
    const size = dims[axis]!;
    const step = steps[index] ?? 1;
    const clamp = (value: number) => {
      const absolute = value < 0 ? value + size : value;
      return step > 0 ? Math.min(Math.max(absolute, 0), size) : Math.min(Math.max(absolute, -1), size - 1);
    };
    const start = clamp(starts[index]!);
    const count = Math.max(0, Math.ceil((clamp(ends[index]!) - start) / step));
    return { axis, start, step, count };
  });
}

const inferSlice: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const starts = requiredIntegers(request, 1);
  const ends = requiredIntegers(request, 2);
  const axes = constantIntegers(request, 3) ?? starts.map((_, axis) => axis);
  const steps = constantIntegers(request, 4) ?? starts.map(() => 1);
  const resolved = new Set(axes.map((axis) => resolveAxis(request, axis, dims.length)));
  const counts = [ends.length, axes.length, steps.length, resolved.size];
  if (counts.some((count) => count !== starts.length) || steps.includes(0)) {
    throw mismatch(request, 'it needs a start, an end and a step other than 0 for each listed axis');
  }
  const result = [...dims];
  for (const cut of resolveSlice(dims, starts, ends, axes, steps)) {
    result[cut.axis] = cut.count;
  }
  return [{ dtype, dims: result }];
};

/** Puts `step - 1` zeros behind every element of an axis. */
function spaceOut(builder: OperatorBuilder, value: string, axis: number, step: number): string {
  const dims = builder.dimsOf(value);
  const split = [...dims.slice(0, axis + 1), 1, ...dims.slice(axis + 1)];
  const pads = new Array<number>(2 * split.length).fill(0);
  pads[split.length + axis + 1] = step - 1;
  const spaced = builder.pad(builder.reshape(value, split), pads);
  return builder.reshape(spaced, [...dims.slice(0, axis), dims[axis]! * step, ...dims.slice(axis + 1)]);
}

/** Puts the gradient of one sliced axis back to where its elements came from, zeros elsewhere. */
function unslice(builder: OperatorBuilder, gradient: string, cut: SlicedAxis, size: number): string {
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

const throughSlice: GradientRule = ({ builder, node, gradient }) => {
  const dims = builder.dimsOf(node.inputs[0]!);
  const [starts, ends, axes, steps] = node.inputs.slice(1).map((name) => knownNumbers(builder, name));
  const cuts = resolveSlice(dims, starts!, ends!, axes ?? starts!.map((_, axis) => axis), steps ?? []);
  if (cuts.some((cut) => cut.count === 0)) return [filled(builder, dims, 0)];
  return [cuts.reduce((value, cut) => unslice(builder, value, cut, dims[cut.axis]!), gradient)];
};

const inferConcat: InferenceRule = (request) => {
  const first = inputOf(request, 0);
  const axis = resolveAxis(request, integerOf(request.attributes, 'axis', 0), first.dims.length);
  let total = 0;
  for (let index = 0; index < request.inputs.length; index++) {
    const { dims, dtype } = inputOf(request, index);
    const fits = dims.length === first.dims.length && dims.every((s, a) => a === axis || s === first.dims[a]);
    if (!fits || dtype !== first.dtype) throw mismatch(request, 'they differ in another axis');
    total += dims[axis]!;
  }
  return [{ dtype: first.dtype, dims: first.dims.map((size, a) => (a === axis ? total : size)) }];
};

const throughConcat: GradientRule = ({ builder, node, gradient, needed }) => {
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

const inferSplit: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const axis = resolveAxis(request, integerOf(request.attributes, 'axis', 0), dims.length);
  const size = dims[axis]!;
  const even = Math.ceil(size / request.outputCount);
  const sizes =
    constantIntegers(request, 1) ??
    Array.from({ length: request.outputCount }, (_, index) => Math.min(even, size - index * even));
  if (sizes.some((piece) => piece < 0)) throw mismatch(request, 'a piece is negative');
  if (sizes.reduce((sum, piece) => sum + piece, 0) !== size || sizes.length !== request.outputCount) {
    throw mismatch(request, `pieces [${sizes.join(', ')}] do not add up`);
  }
  return sizes.map((piece) => ({ dtype, dims: dims.map((s, a) => (a === axis ? piece : s)) }));
};

const throughSplit: GradientRule = ({ builder, node, gradients }) => {
  const pieces = node.outputs.map(
    (output, index) => gradients[index] ?? filled(builder, builder.dimsOf(output), 0),
  );
  return [builder.concat(pieces, integerOf(node.attributes, 'axis', 0))];
};

/** Split without sizes: even pieces, the last one smaller, as opset 18 has it. */
function plainSplit(request: OperatorRequest): string[] | undefined {
  const { builder, inputs, attributes, outputCount } = request;
  if (inputs[1]) return undefined;
  const x = inputName(request, 0);
  const axis = integerOf(attributes, 'axis', 0);
  const size = builder.dimsOf(x).at(axis);
  if (size === undefined) throw mismatch(request, `there is no axis ${axis}`);
  const even = Math.ceil(size / outputCount);
  const sizes = Array.from({ length: outputCount }, (_, index) => Math.min(even, size - index * even));
  if (sizes.some((piece) => piece < 0))
    throw mismatch(request, `it does not make ${plural(outputCount, 'piece')}`);
  return builder.append('Split', [x, builder.integers(sizes)], { axis }, outputCount);
}

const inferGather: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const axis = resolveAxis(request, integerOf(request.attributes, 'axis', 0), dims.length);
  const indices = inputOf(request, 1);
  if (indices.dtype !== 'int64') throw mismatch(request, 'its indices are not int64');
  return [{ dtype, dims: [...dims.slice(0, axis), ...indices.dims, ...dims.slice(axis + 1)] }];
};

/** Evenly stepping indices as what a slice takes; undefined for any others. */
function asSlice(indices: readonly number[], axis: number): SlicedAxis | undefined {
  const [start, second] = indices;
  if (start === undefined) return undefined;
  const step = second === undefined ? 1 : second - start;
  if (step === 0 || indices.some((index, place) => index !== start + place * step)) return undefined;
  return { axis, start, step, count: indices.length };
}

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

/** Evenly stepping indices are put back in their places; others go through {@link gatheredRows}. */
const throughGather: GradientRule = (request) => {
  const { builder: b, node, gradient } = request;
  const dims = b.dimsOf(node.inputs[0]!);
  const indices = node.inputs[1]!;
  const given = integerOf(node.attributes, 'axis', 0);
  const axis = given < 0 ? given + dims.length : given;
  const size = dims[axis]!;
  const known = knownNumbers(b, indices)?.map((index) => (index < 0 ? index + size : index));
  const cut = known && asSlice(known, axis);
  if (cut === undefined) return [gatheredRows(request, axis)];
  const taken = [...dims.slice(0, axis), cut.count, ...dims.slice(axis + 1)];
  return [unslice(b, reshaped(b, gradient, taken), cut, size)];
};

const inferOneHot: InferenceRule = (request) => {
  const depth = requiredIntegers(request, 1)[0] ?? 0;
  return [{ dtype: inputOf(request, 2).dtype, dims: [...inputOf(request, 0).dims, depth] }];
};

export const slicingOperators: OperatorTable = {
  Slice: { trainable: 'input', infer: inferSlice, gradient: throughSlice },
  Concat: { trainable: 'both', infer: inferConcat, gradient: throughConcat },
  Split: { trainable: 'input', infer: inferSplit, gradient: throughSplit, compose: plainSplit },
  Gather: { trainable: 'input', infer: inferGather, gradient: throughGather },
  OneHot: { trainable: 'none', infer: inferOneHot },
};
