/** Tensors as the runtime takes them. */
import * as ort from 'onnxruntime-node';
import type { Tensor } from '../../shared/tensor.ts';

/** By the same names; values stay where they are. */
export function toOrtTensors(tensors: Iterable<readonly [string, Tensor]>): Record<string, ort.Tensor> {
  const converted: Record<string, ort.Tensor> = {};
  for (const [name, { dtype, dims, data }] of tensors) {
    converted[name] = new ort.Tensor(dtype, data as never, [...dims]);
  }
  return converted;
}
