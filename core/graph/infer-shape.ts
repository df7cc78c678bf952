/** Types of operators that move, cut, join or stretch axes. */
import { elementCount } from '../shared/tensor.ts';
import { integerOf, integersOf, stringOf } from './attributes.ts';
import {
  broadcastDims,
  constantIntegers,
  type InferenceRequest,
  type InferenceRule,
  inputOf,
  mismatch,
  requiredIntegers,
  resolveAxis,
} from './infer-support.ts';

const transpose: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const fallback = dims.map((_, axis) => dims.length - 1 - axis);
  const permutation = integersOf(request.attributes, 'perm', fallback);
  if ([...permutation].sort((a, b) => a - b).join() !== dims.map((_, axis) => axis).join()) {
    throw mismatch(request, `[${permutation.join(', ')}] is not a permutation of its axes`);
  }
  return [{ dtype, dims: permutation.map((axis) => dims[axis]!) }];
};

const reshape: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const literalZero = integerOf(request.attributes, 'allowzero', 0) !== 0;
  const wanted = requiredIntegers(request, 1).map((size, axis) =>
    size === 0 && !literalZero ? (dims[axis] ?? 0) : size,
  );
  const known = elementCount(wanted.filter((size) => size !== -1));
  const result = wanted.map((size) => (size === -1 ? elementCount(dims) / known : size));
  if (elementCount(result) !== elementCount(dims) || !result.every(Number.isInteger)) {
    throw mismatch(request, `it cannot become [${wanted.join(', ')}]`);
  }
  return [{ dtype, dims: result }];
};

const flatten: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const axis = integerOf(request.attributes, 'axis', 1);
  const cut = axis < 0 ? axis + dims.length : axis;
  if (cut < 0 || cut > dims.length) throw mismatch(request, `there is no axis ${axis}`);
  return [{ dtype, dims: [elementCount(dims.slice(0, cut)), elementCount(dims.slice(cut))] }];
};

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

const slice: InferenceRule = (request) => {
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

const concat: InferenceRule = (request) => {
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

const split: InferenceRule = (request) => {
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

const pad: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const pads = requiredIntegers(request, 1);
  if (stringOf(request.attributes, 'mode', 'constant') !== 'constant') {
    throw mismatch(request, 'only constant padding is one operator');
  }
  if (pads.length !== 2 * dims.length) throw mismatch(request, 'pads need two numbers per axis');
  return [{ dtype, dims: dims.map((size, axis) => size + pads[axis]! + pads[axis + dims.length]!) }];
};

const gather: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const axis = resolveAxis(request, integerOf(request.attributes, 'axis', 0), dims.length);
  const indices = inputOf(request, 1);
  if (indices.dtype !== 'int64') throw mismatch(request, 'its indices are not int64');
  return [{ dtype, dims: [...dims.slice(0, axis), ...indices.dims, ...dims.slice(axis + 1)] }];
};

const squeeze: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const axes = constantIntegers(request, 1)?.map((axis) => resolveAxis(request, axis, dims.length));
  const gone = new Set(axes ?? dims.flatMap((size, axis) => (size === 1 ? [axis] : [])));
  if (dims.some((size, axis) => gone.has(axis) && size !== 1)) {
    throw mismatch(request, 'an axis is longer than 1');
  }
  return [{ dtype, dims: dims.filter((_, axis) => !gone.has(axis)) }];
};

const unsqueeze: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const given = requiredIntegers(request, 1);
  const rank = dims.length + given.length;
  const added = new Set(given.map((axis) => resolveAxis(request, axis, rank)));
  if (added.size !== given.length) throw mismatch(request, 'an axis is listed twice');
  const rest = [...dims];
  return [{ dtype, dims: Array.from({ length: rank }, (_, axis) => (added.has(axis) ? 1 : rest.shift()!)) }];
};

const expand: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const result = broadcastDims(dims, requiredIntegers(request, 1));
  if (result === undefined) throw mismatch(request, 'it does not broadcast');
  return [{ dtype, dims: result }];
};

const oneHot: InferenceRule = (request: InferenceRequest) => {
  const depth = requiredIntegers(request, 1)[0] ?? 0;
  return [{ dtype: inputOf(request, 2).dtype, dims: [...inputOf(request, 0).dims, depth] }];
};

export const shapeTypes: Readonly<Record<string, InferenceRule>> = {
  Transpose: transpose,
  Reshape: reshape,
  Flatten: flatten,
  Slice: slice,
  Concat: concat,
  Split: split,
  Pad: pad,
  Gather: gather,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Expand: expand,
  OneHot: oneHot,
};
