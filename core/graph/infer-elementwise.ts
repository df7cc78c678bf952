/** Types of operators whose output has the (broadcast) shape of their inputs. */

import type { DataType } from '../shared/tensor.ts';
import { integerOf } from './attributes.ts';
import {
  broadcastDims,
  type InferenceRequest,
  type InferenceRule,
  inputOf,
  mismatch,
} from './infer-support.ts';

function broadcastAll(request: InferenceRequest): number[] {
  let dims: number[] = [];
  for (let index = 0; index < request.inputs.length; index++) {
    const joined = broadcastDims(dims, inputOf(request, index).dims);
    if (joined === undefined) throw mismatch(request, 'they do not broadcast');
    dims = joined;
  }
  return dims;
}

const arithmetic: InferenceRule = (request) => {
  const dtype = inputOf(request, 0).dtype;
  if (inputOf(request, 1).dtype !== dtype) throw mismatch(request, 'the types differ');
  return [{ dtype, dims: broadcastAll(request) }];
};

const comparison: InferenceRule = (request) => [{ dtype: 'bool', dims: broadcastAll(request) }];

const same: InferenceRule = (request) => [inputOf(request, 0)];

const normalised: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  const axis = integerOf(request.attributes, 'axis', -1);
  if (axis < -x.dims.length || axis >= x.dims.length) throw mismatch(request, `there is no axis ${axis}`);
  return [x];
};

const layerNormalization: InferenceRule = (request) => {
  const [x] = normalised(request);
  const axis = integerOf(request.attributes, 'axis', -1);
  const tail = x!.dims.slice(axis);
  for (const index of [1, 2]) {
    const parameter = request.inputs[index];
    if (parameter !== undefined && parameter.dims.join() !== tail.join()) {
      throw mismatch(request, `scale and bias need shape [${tail.join(', ')}]`);
    }
  }
  return [x!];
};

const dtypeByCode = new Map<number, DataType>([
  [1, 'float32'],
  [7, 'int64'],
  [9, 'bool'],
]);

export const elementwiseTypes: Readonly<Record<string, InferenceRule>> = {
  Add: arithmetic,
  Sub: arithmetic,
  Mul: arithmetic,
  Div: arithmetic,
  Pow: arithmetic,
  Equal: comparison,
  Greater: comparison,
  Less: comparison,
  Neg: same,
  Sqrt: same,
  Exp: same,
  Log: same,
  Erf: same,
  Tanh: same,
  Sigmoid: same,
  Relu: same,
  Gelu: same,
  Identity: same,
  Softmax: normalised,
  LogSoftmax: normalised,
  LayerNormalization: layerNormalization,
  Where: (request) => {
    const [condition, a, b] = [inputOf(request, 0), inputOf(request, 1), inputOf(request, 2)];
    if (condition.dtype !== 'bool' || a.dtype !== b.dtype) throw mismatch(request, 'the types do not fit');
    return [{ dtype: a.dtype, dims: broadcastAll(request) }];
  },
  Cast: (request) => {
    const dtype = dtypeByCode.get(integerOf(request.attributes, 'to', 0));
    if (dtype === undefined) throw mismatch(request, 'this target type is not supported');
    return [{ dtype, dims: inputOf(request, 0).dims }];
  },
};
