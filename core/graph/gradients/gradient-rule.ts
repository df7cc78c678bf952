/** The form of a gradient rule, and what the rules share. */
import { elementCount, sameDims } from '../../shared/tensor.ts';
import type { GraphNode } from '../graph.ts';
import type { GraphBuilder } from '../graph-builder.ts';

export interface GradientRequest {
  readonly builder: GraphBuilder;
  readonly node: GraphNode;
  /** d loss / d output 0, with the output's shape. */
  readonly gradient: string;
  /** d loss / d output i; undefined where an output does not reach the loss. */
  readonly gradients: readonly (string | undefined)[];
  /** Inputs that lead to a trainable; gradients of the others need not be built. */
  readonly needed: readonly boolean[];
}

/** Appends nodes and returns one gradient per input, undefined where none is needed. */
export type GradientRule = (request: GradientRequest) => (string | undefined)[];

/** Undoes broadcasting: sums `value` down to `dims`. */
export function sumTo(builder: GraphBuilder, value: string, dims: readonly number[]): string {
  const from = builder.dimsOf(value);
  if (sameDims(from, dims)) return value;
  const extra = from.length - dims.length;
  const axes = from.flatMap((size, axis) => (axis < extra || dims[axis - extra] !== size ? [axis] : []));
  const summed = axes.length > 0 ? builder.reduceSum(value, axes) : value;
  return sameDims(builder.dimsOf(summed), dims) ? summed : builder.reshape(summed, dims);
}

/** `value` in another shape of as many elements; no node when it has it already. */
export function reshaped(builder: GraphBuilder, value: string, dims: readonly number[]): string {
  return sameDims(builder.dimsOf(value), dims) ? value : builder.reshape(value, dims);
}

/** `value` filled out to `dims`; no node when it has them already. */
export function expanded(builder: GraphBuilder, value: string, dims: readonly number[]): string {
  return sameDims(builder.dimsOf(value), dims) ? value : builder.expand(value, dims);
}

export function scaled(builder: GraphBuilder, value: string, factor: number): string {
  return factor === 1 ? value : builder.mul(value, builder.scalar(factor));
}

/** A float32 constant of one value everywhere. */
export function filled(builder: GraphBuilder, dims: readonly number[], value: number): string {
  return builder.constant({ dtype: 'float32', dims, data: new Float32Array(elementCount(dims)).fill(value) });
}
