/** Static types of every operator's outputs: one table, op to rule. */
import { AppError } from '../shared/errors.ts';
import { type DataType, elementCount } from '../shared/tensor.ts';
import type { ValueType } from './graph.ts';
import { convolutionTypes } from './infer-convolution.ts';
import { elementwiseTypes } from './infer-elementwise.ts';
import { normalisationTypes } from './infer-normalisation.ts';
import { reductionTypes } from './infer-reduction.ts';
import { shapeTypes } from './infer-shape.ts';
import { type InferenceRequest, type InferenceRule, mismatch } from './infer-support.ts';

/** TensorProto.DataType of ONNX, as `Cast` takes it. */
export const castTypeCodes: Record<DataType, number> = { float32: 1, int64: 7, bool: 9 };

/** More values than any machine holds; a file that asks for more is damaged or hostile. */
const largestTensor = 2 ** 36;

export const inferenceRules: Readonly<Record<string, InferenceRule>> = {
  ...elementwiseTypes,
  ...convolutionTypes,
  ...normalisationTypes,
  ...reductionTypes,
  ...shapeTypes,
};

/** @throws AppError OPERATOR_UNSUPPORTED for an unknown operator, SHAPE_MISMATCH when the inputs do not fit */
export function inferTypes(request: InferenceRequest): ValueType[] {
  const rule = Object.hasOwn(inferenceRules, request.op) ? inferenceRules[request.op] : undefined;
  if (rule === undefined) {
    throw new AppError('OPERATOR_UNSUPPORTED', `The operator ${request.op} is not supported.`);
  }
  const types = rule(request);
  for (const { dims } of types) {
    if (
      !dims.every((size) => Number.isSafeInteger(size) && size >= 0) ||
      elementCount(dims) > largestTensor
    ) {
      throw mismatch(request, `a result of shape [${dims.join(', ')}] is impossible`);
    }
  }
  return types;
}
