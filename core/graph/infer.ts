/** Static types of every operator's outputs: one table, op to rule. */
import { AppError } from '../shared/errors.ts';
import type { DataType } from '../shared/tensor.ts';
import type { ValueType } from './graph.ts';
import { convolutionTypes } from './infer-convolution.ts';
import { elementwiseTypes } from './infer-elementwise.ts';
import { shapeTypes } from './infer-shape.ts';
import type { InferenceRequest, InferenceRule } from './infer-support.ts';

/** TensorProto.DataType of ONNX, as `Cast` takes it. */
export const castTypeCodes: Record<DataType, number> = { float32: 1, int64: 7, bool: 9 };

export const inferenceRules: Readonly<Record<string, InferenceRule>> = {
  ...elementwiseTypes,
  ...convolutionTypes,
  ...shapeTypes,
};

/** @throws AppError OPERATOR_UNSUPPORTED for an unknown operator, SHAPE_MISMATCH when the inputs do not fit */
export function inferTypes(request: InferenceRequest): ValueType[] {
  const rule = inferenceRules[request.op];
  if (rule === undefined) {
    throw new AppError('OPERATOR_UNSUPPORTED', `The operator ${request.op} is not supported.`);
  }
  return rule(request);
}
