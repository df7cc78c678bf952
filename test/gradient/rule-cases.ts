/** One or more small computations for every gradient rule. */
import { activationCases } from './cases/activation.ts';
import { convolutionCases } from './cases/convolution.ts';
import { elementwiseCases } from './cases/elementwise.ts';
import { linearCases } from './cases/linear.ts';
import { normalisationCases } from './cases/normalisation.ts';
import { poolingCases } from './cases/pooling.ts';
import { reductionCases } from './cases/reduction.ts';
import type { RuleCase } from './cases/rule-case.ts';
import { shapeCases } from './cases/shape.ts';

export type { RuleCase } from './cases/rule-case.ts';

export const ruleCases: readonly RuleCase[] = [
  ...elementwiseCases,
  ...activationCases,
  ...reductionCases,
  ...normalisationCases,
  ...shapeCases,
  ...linearCases,
  ...convolutionCases,
  ...poolingCases,
];
