/** Operators that move, cut, join or repeat values. */
import * as tf from '@tensorflow/tfjs';
import { integerOf, integersOf, stringOf } from '../../../graph/attributes.ts';
import { resolveSlice, type SlicedAxis } from '../../../graph/operators/slicing.ts';
import { channelsLast, type Produced, placeInLast, plain } from '../value.ts';
import { tfTypes } from './elementwise.ts';
import {
  integersAt,
  type Kernel,
  numberAt,
  type Operator,
  type OperatorTable,
  plainKernel,
  rankOf,
  resolved,
  unsupported,
} from './kernel.ts';

/** Reshape, Flatten, Squeeze and Unsqueeze: the output's shape is known, whatever the settings said. */
const reshape: Operator = (request) => {
  const dims = [...request.outputs[0]!.dims];
  return plainKernel((x) => x!.reshape(dims));
};

const transpose: Operator = (request) => {
  const rank = rankOf(request);
  const fallback = Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  const permutation = integersOf(request.attributes, 'perm', fallback);
  const fromLast = permutation.map((axis) => placeInLast[axis] ?? axis);
  return ([x]) => {
    const turned = x!.hasChannelsLast()
      ? x!.channelsLast().transpose(fromLast)
      : x!.plain().transpose(permutation);
    return [plain(turned)];
  };
};

/** Works on either arrangement; `place` says where an axis of the graph's order lies. */
function axiswise(compute: (inputs: tf.Tensor[], place: (axis: number) => number) => tf.Tensor): Kernel {
  return (inputs) => {
    if (inputs.some((input) => input.hasChannelsLast())) {
      return [
        channelsLast(
          compute(
            inputs.map((input) => input.channelsLast()),
            (axis) => placeInLast[axis]!,
          ),
        ),
      ];
    }
    return [
      plain(
        compute(
          inputs.map((input) => input.plain()),
          (axis) => axis,
        ),
      ),
    ];
  };
}

function cut(x: tf.Tensor, cuts: readonly SlicedAxis[], place: (axis: number) => number): tf.Tensor {
  const begin = x.shape.map(() => 0);
  const size = [...x.shape];
  const strides = x.shape.map(() => 1);
  const backwards: number[] = [];
  for (const { axis, start, step, count } of cuts) {
    const at = place(axis);
    const reach = (count - 1) * step;
    begin[at] = step > 0 ? start : start + reach;
    size[at] = count === 0 ? 0 : Math.abs(reach) + 1;
    strides[at] = Math.abs(step);
    if (step < 0) backwards.push(at);
  }
  const taken = tf.slice(x, begin, size);
  const stepped = strides.every((step) => step === 1)
    ? taken
    : tf.stridedSlice(
        taken,
        taken.shape.map(() => 0),
        taken.shape,
        strides,
      );
  return backwards.length === 0 ? stepped : tf.reverse(stepped, backwards);
}

const slice: Operator = (request) => {
  const { dims } = request.inputs[0]!;
  const starts = integersAt(request, 1) ?? integersOf(request.attributes, 'starts', []);
  const ends = integersAt(request, 2) ?? integersOf(request.attributes, 'ends', []);
  const fallback = integersOf(
    request.attributes,
    'axes',
    starts.map((_, axis) => axis),
  );
  const axes = integersAt(request, 3) ?? fallback;
  const cuts = resolveSlice(dims, starts, ends, axes, integersAt(request, 4) ?? []);
  const empty = request.outputs[0]!.dims.includes(0);
  return ([x]) => {
    if (empty) return [plain(tf.zeros([...request.outputs[0]!.dims], x!.plain().dtype as 'float32'))];
    return axiswise(([value], place) => cut(value!, cuts, place))([x!]);
  };
};

const concat: Operator = (request) => {
  const axis = resolved(integerOf(request.attributes, 'axis', 0), rankOf(request));
  return axiswise((parts, place) => (parts.length === 1 ? parts[0]!.clone() : tf.concat(parts, place(axis))));
};

const split: Operator = (request) => {
  const axis = resolved(integerOf(request.attributes, 'axis', 0), rankOf(request));
  const sizes = request.outputs.map(({ dims }) => dims[axis]!);
  return ([x]): Produced[] =>
    x!.hasChannelsLast()
      ? tf.split(x!.channelsLast(), sizes, placeInLast[axis]).map(channelsLast)
      : tf.split(x!.plain(), sizes, axis).map(plain);
};

interface PadSettings {
  readonly mode: string;
  readonly value: number;
  /** By axis of the graph's order: [before, after]; negative ones crop. */
  readonly margins: readonly (readonly [number, number])[];
}

function padTensor(x: tf.Tensor, settings: PadSettings, place: (axis: number) => number): tf.Tensor {
  const margins = x.shape.map(() => [0, 0] as [number, number]);
  for (const [axis, margin] of settings.margins.entries()) margins[place(axis)] = [...margin];
  const begin = margins.map(([before]) => Math.max(0, -before));
  const size = x.shape.map(
    (count, axis) => count + Math.min(0, margins[axis]![0]) + Math.min(0, margins[axis]![1]),
  );
  const cropped = margins.flat().some((count) => count < 0) ? tf.slice(x, begin, size) : x;
  const added = margins.map(([before, after]): [number, number] => [Math.max(0, before), Math.max(0, after)]);
  if (added.flat().every((count) => count === 0)) return cropped.clone();
  if (settings.mode === 'reflect') return tf.mirrorPad(cropped, added, 'reflect');
  return settings.mode === 'edge' ? repeatEdges(cropped, added) : padConstant(cropped, added, settings.value);
}

/** tfjs has no bool padding; numbers pass through as they are. */
function padConstant(x: tf.Tensor, added: [number, number][], value: number): tf.Tensor {
  if (x.dtype !== 'bool') return tf.pad(x, added, value);
  return tf.cast(tf.pad(tf.cast(x, 'int32'), added, value), 'bool');
}

function repeatEdges(x: tf.Tensor, added: [number, number][]): tf.Tensor {
  return added.reduce((value, [before, after], axis) => {
    const edge = (start: number, count: number) => {
      const begin = value.shape.map((_, index) => (index === axis ? start : 0));
      const size = value.shape.map((extent, index) => (index === axis ? 1 : extent));
      const line = tf.slice(value, begin, size);
      return tf.tile(
        line,
        value.shape.map((_, index) => (index === axis ? count : 1)),
      );
    };
    const parts = [value];
    if (before > 0) parts.unshift(edge(0, before));
    if (after > 0) parts.push(edge(value.shape[axis]! - 1, after));
    return parts.length === 1 ? value : tf.concat(parts, axis);
  }, x);
}

const pad: Operator = (request) => {
  const rank = rankOf(request);
  const pads = integersAt(request, 1) ?? integersOf(request.attributes, 'pads', []);
  const axes = integersAt(request, 3)?.map((axis) => resolved(axis, rank)) ?? [...Array(rank).keys()];
  const margins = Array.from({ length: rank }, () => [0, 0] as [number, number]);
  for (const [index, axis] of axes.entries()) margins[axis] = [pads[index]!, pads[index + axes.length]!];
  const mode = stringOf(request.attributes, 'mode', 'constant');
  if (!['constant', 'reflect', 'edge'].includes(mode))
    throw unsupported(request, `mode "${mode}" is missing here`);
  if (request.inputs[2] !== undefined && numberAt(request, 2) === undefined) {
    throw unsupported(request, 'the value of the padding has to be constant');
  }
  const settings = { mode, value: numberAt(request, 2) ?? 0, margins };
  if (rank === 0) return plainKernel((x) => x!.clone());
  return ([x]) => axiswise(([value], place) => padTensor(value!, settings, place))([x!]);
};

/** Negative indices count from the end, which tfjs does not know. */
function fromStart(indices: tf.Tensor, size: number): tf.Tensor {
  return tf.where(
    tf.less(indices, tf.scalar(0, 'int32')),
    tf.add(indices, tf.scalar(size, 'int32')),
    indices,
  );
}

const gather: Operator = (request) => {
  const { dims } = request.inputs[0]!;
  const axis = resolved(integerOf(request.attributes, 'axis', 0), dims.length);
  const size = dims[axis]!;
  const known = request.constant(1)?.data;
  const outside = known && Array.from(known as BigInt64Array, Number).find((at) => at < -size || at >= size);
  if (outside !== undefined) throw unsupported(request, `index ${outside} is outside ${size}`);
  const output = [...request.outputs[0]!.dims];
  return plainKernel((x, indices) => {
    const flat = fromStart(indices!.reshape([indices!.size]), size) as tf.Tensor1D;
    return tf.gather(x!, flat, axis).reshape(output);
  });
};

const expand: Operator = (request) => {
  const dims = [...request.outputs[0]!.dims];
  return plainKernel((x) => tf.broadcastTo(x!, dims));
};

/**
 * A new axis of `depth` places: `values` holds what stands elsewhere and what at the index. Compared place by
 * place, since tfjs' own refuses a depth of 1 and gives floats wrongly in WebAssembly.
 */
const oneHot: Operator = (request) => {
  const depth = numberAt(request, 1);
  const values = request.constant(2);
  if (depth === undefined || values === undefined) {
    throw unsupported(request, 'depth and values have to be constant');
  }
  const { dims, dtype } = request.outputs[0]!;
  const axis = resolved(integerOf(request.attributes, 'axis', -1), dims.length);
  const spread = dims.map((_, index) => (index === axis ? depth : 1));
  const places = request.keep(spread, () => tf.tensor(Int32Array.from(Array(depth).keys()), spread, 'int32'));
  const [off, on] = Array.from(values.data as Float32Array, Number) as [number, number];
  const single = dims.map((size, index) => (index === axis ? 1 : size));
  return plainKernel((indices) => {
    const hits = tf.equal(fromStart(indices!, depth).reshape(single), places.plain());
    return tf.where(hits, tf.scalar(on, tfTypes[dtype]), tf.scalar(off, tfTypes[dtype]));
  });
};

export const shapeOperators: OperatorTable = {
  Reshape: reshape,
  Flatten: reshape,
  Squeeze: reshape,
  Unsqueeze: reshape,
  Transpose: transpose,
  Slice: slice,
  Concat: concat,
  Split: split,
  Pad: pad,
  Gather: gather,
  Expand: expand,
  OneHot: oneHot,
};
