/** Values that are known at import: weights, shapes, axes. */
import type { Tensor } from '../../shared/tensor.ts';

/** `int32` holds all integers of up to 32 bits, `int64` the wider ones; half and double floats become float32. */
export interface HostArrayOf {
  float32: Float32Array;
  int32: Int32Array;
  int64: BigInt64Array;
  bool: Uint8Array;
}

export type HostType = keyof HostArrayOf;

export interface HostTensor<T extends HostType = HostType> {
  readonly dtype: T;
  readonly dims: readonly number[];
  readonly data: HostArrayOf[T];
  /** TensorProto.DataType in the file, where it was read from one. */
  readonly elementType?: number;
}

export function hostTensor<T extends HostType>(
  dtype: T,
  dims: readonly number[],
  data: HostArrayOf[T],
): HostTensor<T> {
  return { dtype, dims, data };
}

/** An empty array of a type, for `count` values. */
export function newHostArray<T extends HostType>(dtype: T, count: number): HostArrayOf[T] {
  const make: { [K in HostType]: (count: number) => HostArrayOf[K] } = {
    float32: (length) => new Float32Array(length),
    int32: (length) => new Int32Array(length),
    int64: (length) => new BigInt64Array(length),
    bool: (length) => new Uint8Array(length),
  };
  return make[dtype](count);
}

/** The numbers of a tensor as doubles; integers beyond 2⁵³ lose their last bits. */
export function numbersOf(tensor: HostTensor): number[] {
  return Array.from(tensor.data as ArrayLike<number | bigint>, Number);
}

/** A tensor of `dtype` from doubles. Integers are clamped to 64 bits. */
export function fromNumbers(dtype: HostType, dims: readonly number[], values: ArrayLike<number>): HostTensor {
  const data = newHostArray(dtype, values.length);
  if (dtype === 'int64') {
    const wide = data as BigInt64Array;
    for (let index = 0; index < values.length; index++) wide[index] = toInt64(values[index]!);
  } else if (dtype === 'bool') {
    for (let index = 0; index < values.length; index++) data[index] = values[index] !== 0 ? 1 : 0;
  } else {
    for (let index = 0; index < values.length; index++) (data as Float32Array)[index] = values[index]!;
  }
  return { dtype, dims, data };
}

const largest = 2n ** 63n - 1n;

function toInt64(value: number): bigint {
  if (Number.isNaN(value)) return 0n;
  if (value >= 2 ** 63) return largest;
  if (value <= -(2 ** 63)) return -largest - 1n;
  return BigInt(Math.trunc(value));
}

/** As the graph holds constants: integers become int64. */
export function toGraphTensor(tensor: HostTensor): Tensor {
  if (tensor.dtype !== 'int32') return tensor as Tensor;
  return fromNumbers('int64', tensor.dims, tensor.data as Int32Array) as Tensor;
}

export function isFloat(tensor: HostTensor): tensor is HostTensor<'float32'> {
  return tensor.dtype === 'float32';
}

/** The same values in another type; floats are cut towards zero. */
export function mapType(tensor: HostTensor, dtype: HostType): HostTensor {
  if (tensor.dtype === dtype) return tensor;
  return fromNumbers(
    dtype,
    tensor.dims,
    tensor.dtype === 'int64' ? numbersOf(tensor) : (tensor.data as Float32Array),
  );
}
