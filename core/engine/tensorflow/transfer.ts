/** Tensors on their way to the backend and back. TensorFlow.js counts with 32-bit integers. */
import * as tf from '@tensorflow/tfjs';
import { AppError } from '../../shared/errors.ts';
import type { DataType, Tensor } from '../../shared/tensor.ts';

const largest = 2n ** 31n - 1n;
const smallest = -(2n ** 31n);

/** @throws AppError SHAPE_MISMATCH when an integer does not fit into 32 bits */
function narrowed(name: string, data: BigInt64Array): Int32Array {
  const integers = new Int32Array(data.length);
  for (const [index, value] of data.entries()) {
    if (value > largest || value < smallest) {
      throw new AppError(
        'SHAPE_MISMATCH',
        `"${name}" holds the integer ${value}, but TensorFlow.js has 32-bit integers only.`,
      );
    }
    integers[index] = Number(value);
  }
  return integers;
}

/** @param name is for the error message */
export function upload(name: string, tensor: Tensor): tf.Tensor {
  const dims = [...tensor.dims];
  if (tensor.dtype === 'float32') return tf.tensor(tensor.data as Float32Array, dims, 'float32');
  if (tensor.dtype === 'bool') return tf.tensor(tensor.data as Uint8Array, dims, 'bool');
  return tf.tensor(narrowed(name, tensor.data as BigInt64Array), dims, 'int32');
}

/** Copies the values out of the backend. */
export function download(tensor: tf.Tensor, dtype: DataType, dims: readonly number[]): Tensor {
  const data = tensor.dataSync();
  if (dtype === 'float32') return { dtype, dims, data: Float32Array.from(data) };
  if (dtype === 'bool') return { dtype, dims, data: Uint8Array.from(data) };
  return { dtype, dims, data: BigInt64Array.from(data as Int32Array, BigInt) };
}
