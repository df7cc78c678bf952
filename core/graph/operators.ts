/** The ONNX operators that the graph layer knows: opset 20 forms; GroupNormalization of opset 21. */
import { AppError } from '../shared/errors.ts';
import { elementCount } from '../shared/tensor.ts';
import type { ValueType } from './graph.ts';
import { activationOperators } from './operators/activation.ts';
import { channelNormalisationOperators } from './operators/channel-normalisation.ts';
import { convolutionOperators } from './operators/convolution.ts';
import { elementwiseOperators } from './operators/elementwise.ts';
import { linearOperators } from './operators/linear.ts';
import { logicOperators } from './operators/logic.ts';
import { normalisationOperators } from './operators/normalisation.ts';
import { mismatch, type Operator, type OperatorRequest } from './operators/operator.ts';
import { paddingOperators } from './operators/padding.ts';
import { poolingOperators } from './operators/pooling.ts';
import { reductionOperators } from './operators/reduction.ts';
import { resizeOperators } from './operators/resize.ts';
import { shapeOperators } from './operators/shape.ts';
import { slicingOperators } from './operators/slicing.ts';

/** Every operator that {@link GraphBuilder.append} takes, by name. */
export const operators: ReadonlyMap<string, Operator> = new Map(
  [
    elementwiseOperators,
    logicOperators,
    activationOperators,
    linearOperators,
    convolutionOperators,
    poolingOperators,
    normalisationOperators,
    channelNormalisationOperators,
    reductionOperators,
    shapeOperators,
    slicingOperators,
    paddingOperators,
    resizeOperators,
  ].flatMap(Object.entries<Operator>),
);

/** More values than any machine holds; a file that asks for more is damaged or hostile. */
const largestTensor = 2 ** 36;

/** @throws AppError OPERATOR_UNSUPPORTED for an unknown operator, SHAPE_MISMATCH when the inputs do not fit */
export function inferTypes(request: OperatorRequest): ValueType[] {
  const infer = operators.get(request.op)?.infer;
  if (infer === undefined) {
    throw new AppError('OPERATOR_UNSUPPORTED', `The operator ${request.op} is not supported.`);
  }
  const types = infer(request);
  for (const { dims } of types) {
    const isWhole = dims.every((size) => Number.isSafeInteger(size) && size >= 0);
    if (!isWhole || elementCount(dims) > largestTensor) {
      throw mismatch(request, `a result of shape [${dims.join(', ')}] is impossible`);
    }
  }
  return types;
}
