/** Small pieces of graph that the rules of several operators append. */
import { elementCount, sameDims } from '../../shared/tensor.ts';
import type { OperatorBuilder } from '../operator-builder.ts';

/** Undoes broadcasting: sums `value` down to `dims`. */
export function sumTo(builder: OperatorBuilder, value: string, dims: readonly number[]): string {
  const from = builder.dimsOf(value);
  if (sameDims(from, dims)) return value;
  const extra = from.length - dims.length;
  const axes = from.flatMap((size, axis) => (axis < extra || dims[axis - extra] !== size ? [axis] : []));
  const summed = axes.length > 0 ? builder.reduceSum(value, axes) : value;
  return reshaped(builder, summed, dims);
}

/** `value` in another shape of as many elements; no node when it has it already. */
export function reshaped(builder: OperatorBuilder, value: string, dims: readonly number[]): string {
  return sameDims(builder.dimsOf(value), dims) ? value : builder.reshape(value, dims);
}

/** `value` filled out to `dims`; no node when it has them already. */
export function expanded(builder: OperatorBuilder, value: string, dims: readonly number[]): string {
  return sameDims(builder.dimsOf(value), dims) ? value : builder.expand(value, dims);
}

export function scaled(builder: OperatorBuilder, value: string, factor: number): string {
  return factor === 1 ? value : builder.mul(value, builder.scalar(factor));
}

/** A float32 constant of one value everywhere. */
export function filled(builder: OperatorBuilder, dims: readonly number[], value: number): string {
  return builder.constant({ dtype: 'float32', dims, data: new Float32Array(elementCount(dims)).fill(value) });
}

/** So steep that any activation is at an end, and not so steep that a large one overflows. */
const steepness = 1e30;

/**
 * A mask to multiply a gradient with (Where costs ONNX Runtime several times as much): 1 where `value` is positive,
 * 0 elsewhere; in between for positive values below 1e-30, which do not occur.
 */
export function positiveMask(builder: OperatorBuilder, value: string): string {
  const attributes = { alpha: { float: steepness }, beta: { float: 0 } };
  return builder.append1('HardSigmoid', [value], attributes);
}

/** 1 where a bool value is true, 0 elsewhere. */
export function asMask(builder: OperatorBuilder, condition: string): string {
  return builder.cast(condition, 'float32');
}

/** Up to this many copies joining them is faster in ONNX Runtime than Expand along an inner axis (measured). */
const mostJoined = 8;

/** `x` again and again along its axes: an axis of repeats before each is stretched, then joined with it. */
export function repeatWhole(builder: OperatorBuilder, x: string, repeats: readonly number[]): string {
  const dims = builder.dimsOf(x);
  const pairs = (count: (axis: number) => number) =>
    dims.flatMap((size, axis) => (repeats[axis] === 1 ? [size] : [count(axis), size]));
  const separate = builder.reshape(
    x,
    pairs(() => 1),
  );
  const stretched = builder.expand(
    separate,
    pairs((axis) => repeats[axis]!),
  );
  return builder.reshape(
    stretched,
    dims.map((size, axis) => size * repeats[axis]!),
  );
}

/** Each value of `x` so many times in a row along each axis. */
export function repeatEach(builder: OperatorBuilder, x: string, repeats: readonly number[]): string {
  // From the last axis on, while the value is still small.
  return repeats.reduceRight((value, count, axis) => repeatAlong(builder, value, count, axis), x);
}

function repeatAlong(builder: OperatorBuilder, x: string, count: number, axis: number): string {
  if (count === 1) return x;
  const dims = builder.dimsOf(x);
  const [before, size, after] = [dims.slice(0, axis), dims[axis]!, dims.slice(axis + 1)];
  const whole = [...before, size * count, ...after];
  if (size === 1) return builder.expand(x, whole);
  const single = builder.reshape(x, [...before, size, 1, ...after]);
  const repeated =
    count <= mostJoined
      ? builder.concat(new Array<string>(count).fill(single), axis + 1)
      : builder.expand(single, [...before, size, count, ...after]);
  return builder.reshape(repeated, whole);
}
