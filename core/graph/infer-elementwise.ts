/** Types of operators whose output has the (broadcast) shape of their inputs. */

import type { DataType } from '../shared/tensor.ts';
import { integerOf } from './attributes.ts';
import {
  broadcastDims,
  floatInput,
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

const sameFloat: InferenceRule = (request) => [floatInput(request, 0)];

/** Broadcasts to the shape of x, which does not grow itself. */
const prelu: InferenceRule = (request) => {
  const x = floatInput(request, 0);
  const slope = floatInput(request, 1);
  if (broadcastDims(slope.dims, x.dims)?.join() !== x.dims.join()) {
    throw mismatch(request, 'the slope does not broadcast to the input');
  }
  return [x];
};

const clip: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  for (const bound of request.inputs.slice(1)) {
    if (bound === undefined) continue;
    if (bound.dims.length > 0 || bound.dtype !== x.dtype) {
      throw mismatch(request, 'its bounds need to be scalars of the type of the input');
    }
  }
  return [x];
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
  Abs: same,
  Sign: same,
  Reciprocal: sameFloat,
  Sqrt: sameFloat,
  Exp: sameFloat,
  Log: sameFloat,
  Erf: sameFloat,
  Tanh: sameFloat,
  Sigmoid: sameFloat,
  Relu: sameFloat,
  Gelu: sameFloat,
  LeakyRelu: sameFloat,
  Elu: sameFloat,
  HardSigmoid: sameFloat,
  Softplus: sameFloat,
  Identity: same,
  Min: arithmetic,
  Max: arithmetic,
  Clip: clip,
  PRelu: prelu,
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
