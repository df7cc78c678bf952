/** All operators of this engine by the name that ONNX gives them. */
import { convolutionOperators } from './convolution.ts';
import { elementwiseOperators } from './elementwise.ts';
import type { OperatorTable } from './kernel.ts';
import { linearOperators } from './linear.ts';
import { normalisationOperators } from './normalisation.ts';
import { poolingOperators } from './pooling.ts';
import { reductionOperators } from './reduction.ts';
import { shapeOperators } from './shape.ts';

export const operatorTable: OperatorTable = {
  ...elementwiseOperators,
  ...linearOperators,
  ...convolutionOperators,
  ...poolingOperators,
  ...normalisationOperators,
  ...reductionOperators,
  ...shapeOperators,
};
