/** Tensors as they cross module borders: row-major, dense, little-endian in files. */
import { plural } from './text.ts';

export type DataType = 'float32' | 'int64' | 'bool';

export interface TypedArrayOf {
  float32: Float32Array;
  int64: BigInt64Array;
  bool: Uint8Array;
}

export const bytesPerValue: Readonly<Record<DataType, number>> = { float32: 4, int64: 8, bool: 1 };

export interface Tensor<T extends DataType = DataType> {
  readonly dtype: T;
  readonly dims: readonly number[];
  readonly data: TypedArrayOf[T];
}

export type FloatTensor = Tensor<'float32'>;

/** Number of elements of a shape; 1 for a scalar `[]`. */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1);
}

/** A float32 tensor; `data` defaults to zeros. Throws RangeError when the length disagrees with `dims`. */
export function floatTensor(dims: readonly number[], data?: Float32Array): FloatTensor {
  const values = data ?? new Float32Array(elementCount(dims));
  if (values.length !== elementCount(dims)) {
    throw new RangeError(
      `shape [${dims.join(', ')}] needs ${plural(elementCount(dims), 'value')}, got ${values.length}`,
    );
  }
  return { dtype: 'float32', dims, data: values };
}

export function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** Whether all values are finite numbers. */
export function isFiniteTensor({ data }: FloatTensor): boolean {
  // NaN and infinity times 0 are NaN, everything else is 0: one sum tells, four times as fast as asking of each value.
  let [x0, x1] = [0, 0];
  for (let i = 0; i + 1 < data.length; i += 2) {
    x0 += data[i]! * 0;
    x1 += data[i + 1]! * 0;
  }
  const last = data.length === 0 ? 0 : data.at(-1)! * 0;
  return x0 + x1 + last === 0;
}
