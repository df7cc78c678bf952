/** Repeating values along axes. */
import type { OperatorBuilder } from './operator-builder.ts';

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
