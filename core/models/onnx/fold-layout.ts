/** Operators that move, cut or join values, on values known at import. */
import { elementCount } from '../../shared/tensor.ts';
import { plural } from '../../shared/text.ts';
import { NodeProblem } from './attributes.ts';
import { type HostTensor, newHostArray } from './host-tensor.ts';

/** Known values larger than this are not made: nothing that a network needs, but what a hostile file would. */
const maxFoldedValues = 2 ** 24;

/** @throws NodeProblem when a result would take far more memory than what it is made of */
export function checkFoldedSize(dims: readonly number[], inputValues: number): number {
  const count = elementCount(dims);
  if (!(count <= Math.max(maxFoldedValues, inputValues)) || dims.some((size) => size < 0)) {
    throw new NodeProblem('invalid', `makes a constant of the impossible shape [${dims.join(', ')}]`);
  }
  return count;
}

/** Row-major strides. */
export function stridesOf(dims: readonly number[]): number[] {
  const strides = new Array<number>(dims.length).fill(1);
  for (let axis = dims.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1]! * dims[axis + 1]!;
  return strides;
}

/**
 * A tensor of `dims` whose value at place (i, j, …) is the input's at start + i·strides[0] + j·strides[1] + …
 * With stride 0 an axis repeats.
 */
export function strided(
  input: HostTensor,
  dims: readonly number[],
  strides: readonly number[],
  start = 0,
): HostTensor {
  const count = checkFoldedSize(dims, input.data.length);
  const data = newHostArray(input.dtype, count);
  const place = new Array<number>(dims.length).fill(0);
  let from = start;
  for (let index = 0; index < count; index++) {
    data[index] = input.data[from]!;
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++place[axis]! < dims[axis]!) break;
      from -= strides[axis]! * dims[axis]!;
      place[axis] = 0;
    }
  }
  return { dtype: input.dtype, dims, data };
}

/** An axis in [0, rank). */
export function resolveAxis(axis: number, rank: number): number {
  const resolved = axis < 0 ? axis + rank : axis;
  if (resolved < 0 || resolved >= rank) {
    throw new NodeProblem('invalid', `names axis ${axis} of a value of rank ${rank}`);
  }
  return resolved;
}

export function reshaped(input: HostTensor, dims: readonly number[]): HostTensor {
  return { ...input, dims };
}

/** The shape that a Reshape asks for, with its 0 and -1 filled in. @throws NodeProblem */
export function reshapeDims(
  from: readonly number[],
  wanted: readonly number[],
  allowZero: boolean,
): number[] {
  const dims = wanted.map((size, axis) => (size === 0 && !allowZero ? (from[axis] ?? -2) : size));
  const open = dims.indexOf(-1);
  const count = elementCount(from);
  if (open >= 0) dims[open] = count / elementCount(dims.filter((_, axis) => axis !== open));
  const fits = dims.every((size) => Number.isSafeInteger(size) && size >= 0) && elementCount(dims) === count;
  if (!fits) {
    throw new NodeProblem(
      'invalid',
      `cannot make [${wanted.join(', ')}] of a value of shape [${from.join(', ')}]`,
    );
  }
  return dims;
}

export function transposed(input: HostTensor, permutation: readonly number[]): HostTensor {
  const rank = input.dims.length;
  if ([...permutation].sort((a, b) => a - b).join() !== [...input.dims.keys()].join()) {
    throw new NodeProblem(
      'invalid',
      `has [${permutation.join(', ')}], which is not a permutation of ${plural(rank, 'axis', 'axes')}`,
    );
  }
  const strides = stridesOf(input.dims);
  return strided(
    input,
    permutation.map((axis) => input.dims[axis]!),
    permutation.map((axis) => strides[axis]!),
  );
}

/** numpy's broadcast shape. @throws NodeProblem */
export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const left = a[axis - rank + a.length] ?? 1;
    const right = b[axis - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw new NodeProblem('invalid', `cannot broadcast [${a.join(', ')}] and [${b.join(', ')}]`);
    }
    return left === 1 ? right : left;
  });
}

/** `input` repeated to `dims`, to which it must broadcast. */
export function expanded(input: HostTensor, dims: readonly number[]): HostTensor {
  if (input.dims.join() === dims.join()) return input;
  const own = stridesOf(input.dims);
  const shift = dims.length - input.dims.length;
  const strides = dims.map((_, axis) => ((input.dims[axis - shift] ?? 1) === 1 ? 0 : own[axis - shift]!));
  return strided(input, dims, strides);
}

export function concatenated(inputs: readonly HostTensor[], axis: number): HostTensor {
  const first = inputs[0];
  if (first === undefined) throw new NodeProblem('invalid', 'concatenates nothing');
  const at = resolveAxis(axis, first.dims.length);
  const others = (dims: readonly number[]) => dims.filter((_, index) => index !== at).join();
  if (inputs.some(({ dims, dtype }) => dtype !== first.dtype || others(dims) !== others(first.dims))) {
    throw new NodeProblem('invalid', 'concatenates values of different shapes or types');
  }
  const total = inputs.reduce((sum, { dims }) => sum + dims[at]!, 0);
  const dims = first.dims.map((size, index) => (index === at ? total : size));
  const values = inputs.reduce((sum, { data }) => sum + data.length, 0);
  const data = newHostArray(first.dtype, checkFoldedSize(dims, values));
  const outer = elementCount(first.dims.slice(0, at));
  const inner = elementCount(first.dims.slice(at + 1));
  let offset = 0;
  for (let row = 0; row < outer; row++) {
    for (const input of inputs) {
      const size = input.dims[at]! * inner;
      data.set(input.data.subarray(row * size, (row + 1) * size) as never, offset);
      offset += size;
    }
  }
  return { dtype: first.dtype, dims, data };
}

/** Takes the listed places of one axis; negative ones count from the end. */
export function gathered(input: HostTensor, indices: HostTensor, axis: number): HostTensor {
  const at = resolveAxis(axis, input.dims.length);
  const size = input.dims[at]!;
  const places = Array.from(indices.data as ArrayLike<number | bigint>, (value) => {
    const place = Number(value) < 0 ? Number(value) + size : Number(value);
    if (!(place >= 0 && place < size)) {
      throw new NodeProblem('invalid', `asks for place ${value} of ${size}`);
    }
    return place;
  });
  const outer = elementCount(input.dims.slice(0, at));
  const inner = elementCount(input.dims.slice(at + 1));
  const dims = [...input.dims.slice(0, at), ...indices.dims, ...input.dims.slice(at + 1)];
  const data = newHostArray(input.dtype, checkFoldedSize(dims, input.data.length));
  let offset = 0;
  for (let row = 0; row < outer; row++) {
    for (const place of places) {
      const start = (row * size + place) * inner;
      data.set(input.data.subarray(start, start + inner) as never, offset);
      offset += inner;
    }
  }
  return { dtype: input.dtype, dims, data };
}
