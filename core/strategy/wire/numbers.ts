/**
 * Values of one tensor in fewer bits, and back.
 *
 * `fp16`: IEEE 754 binary16, rounded to the nearest; a value x comes back within 2⁻¹¹·|x| + 2⁻²⁵, and values beyond
 * ±65504 as ±65504. `int8`: symmetric with one scale s = max|x| / 127 per group (row of A, column of B, row of other
 * matrices, whole vector); x comes back as s·q, within s/2 but for the rounding of a float32.
 */
import type { WirePrecision } from '../../config/round-options.ts';
import { bytesOfFloats, type RawTensor } from '../../lora/safetensors-writer.ts';
import { elementCount } from '../../shared/tensor.ts';
import type { WireEntry } from './wire-context.ts';

const largestHalf = 65504;
const largestInteger = 127;
/** Rounded down, so that 127 times it is still a float32. */
const largestScale = Math.fround((3.4028234663852886e38 / largestInteger) * (1 - 2 ** -23));

/** The one tensor that holds the scales of all int8 tensors of a file, in their order. No other tensor is named so. */
export const nameOfScales = 'scales';

export const typeOf = { fp32: 'F32', fp16: 'F16', int8: 'I8' } as const;

/** Number of scales of a tensor in int8. */
export function groupCount({ dims, axis }: Pick<WireEntry, 'dims' | 'axis'>): number {
  if (elementCount(dims) === 0) return 0;
  return axis === null ? 1 : dims[axis]!;
}

/** Group of each value: the place along the entry's axis. */
function groupOf({ dims, axis }: Pick<WireEntry, 'dims' | 'axis'>): (index: number) => number {
  if (axis === null) return () => 0;
  const inner = elementCount(dims.slice(axis + 1));
  const places = dims[axis]!;
  return (index) => Math.floor(index / inner) % places;
}

export interface CodedTensor {
  readonly tensor: RawTensor;
  /** For int8, one per group. */
  readonly scales: Float32Array;
  /** The values as the other end reads them. */
  readonly decoded: Float32Array;
}

const noScales = new Float32Array(0);

/** @param values finite numbers, row by row */
export function codeTensor(entry: WireEntry, values: Float32Array, precision: WirePrecision): CodedTensor {
  const { name, dims } = entry;
  if (precision === 'fp32') {
    const tensor: RawTensor = { name, dims, dtype: 'F32', bytes: bytesOfFloats(values) };
    return { tensor, scales: noScales, decoded: values };
  }
  if (precision === 'fp16') {
    const halves = Float16Array.from(values, (value) => Math.max(-largestHalf, Math.min(largestHalf, value)));
    const tensor: RawTensor = { name, dims, dtype: 'F16', bytes: new Uint8Array(halves.buffer) };
    return { tensor, scales: noScales, decoded: new Float32Array(halves) };
  }
  return codeIntegers(entry, values);
}

function codeIntegers(entry: WireEntry, values: Float32Array): CodedTensor {
  const { name, dims } = entry;
  const group = groupOf(entry);
  const scales = new Float32Array(groupCount(entry));
  for (let i = 0; i < values.length; i++) {
    const g = group(i);
    scales[g] = Math.max(scales[g]!, Math.abs(values[i]!));
  }
  for (let g = 0; g < scales.length; g++) scales[g] = Math.min(largestScale, scales[g]! / largestInteger);
  const integers = new Int8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const scale = scales[group(i)]!;
    // Values so small that their scale is no float32 any more become 0.
    const quotient = scale === 0 ? 0 : Math.round(values[i]! / scale);
    integers[i] = Math.max(-largestInteger, Math.min(largestInteger, quotient));
  }
  return {
    tensor: { name, dims, dtype: 'I8', bytes: new Uint8Array(integers.buffer) },
    scales,
    decoded: scaleIntegers(entry, integers, scales),
  };
}

/** s·q, rounded to float32: the same on both ends. @param integers of −127 … 127 */
export function scaleIntegers(
  entry: Pick<WireEntry, 'dims' | 'axis'>,
  integers: Int8Array,
  scales: Float32Array,
): Float32Array {
  const group = groupOf(entry);
  const values = new Float32Array(integers.length);
  for (let i = 0; i < values.length; i++) values[i] = integers[i]! * scales[group(i)]!;
  return values;
}
