/**
 * Operators that are written as a few others when they are appended, so that no engine and no gradient rule
 * has to know them. A composite never folds weights: what a file calls a weight stays a value of its own.
 */

import { dropout, hardSwish, mish, selu, softsign } from './composites/activation.ts';
import { pairwise, sumOf } from './composites/arithmetic.ts';
import type { CompositeRequest, CompositeRule } from './composites/composite-rule.ts';
import { depthToSpace, patternedPad, plainSplit, spaceToDepth, tile } from './composites/layout.ts';
import { globalMaxPool, groupNormalization, vectorMatMul } from './composites/network.ts';
import { emptyReduction, reduceL1, reduceLogSum, reduceSumSquare } from './composites/reduction.ts';
import { resize } from './composites/resize.ts';

interface Composite {
  readonly trainable: 'both' | 'input';
  readonly expand: CompositeRule;
}

/** Operators that always become others. */
export const compositeOperators: Readonly<Record<string, Composite>> = {
  DepthToSpace: { trainable: 'input', expand: depthToSpace },
  Dropout: { trainable: 'input', expand: dropout },
  GlobalMaxPool: { trainable: 'input', expand: globalMaxPool },
  GroupNormalization: { trainable: 'both', expand: groupNormalization },
  HardSwish: { trainable: 'input', expand: hardSwish },
  Mean: { trainable: 'both', expand: (request) => sumOf(request, 1 / request.inputs.length) },
  Mish: { trainable: 'input', expand: mish },
  ReduceL1: { trainable: 'input', expand: reduceL1 },
  ReduceLogSum: { trainable: 'input', expand: reduceLogSum },
  ReduceSumSquare: { trainable: 'input', expand: reduceSumSquare },
  Resize: { trainable: 'input', expand: resize },
  Selu: { trainable: 'input', expand: selu },
  Softsign: { trainable: 'input', expand: softsign },
  SpaceToDepth: { trainable: 'input', expand: spaceToDepth },
  Sum: { trainable: 'both', expand: (request) => sumOf(request, 1) },
  Tile: { trainable: 'input', expand: tile },
};

/** Operators of which only some forms become others; `undefined` leaves the form as it is. */
const rewrittenForms: Readonly<Record<string, (request: CompositeRequest) => string[] | undefined>> = {
  MatMul: vectorMatMul,
  Max: pairwise,
  Min: pairwise,
  Pad: patternedPad,
  ReduceMax: emptyReduction,
  ReduceMean: emptyReduction,
  ReduceMin: emptyReduction,
  ReduceSum: emptyReduction,
  Split: plainSplit,
};

/** The outputs of an operator written as others, or undefined when it is to be appended as it is. */
export function expandComposite(request: CompositeRequest): string[] | undefined {
  const { op } = request;
  if (Object.hasOwn(compositeOperators, op)) return compositeOperators[op]!.expand(request);
  return Object.hasOwn(rewrittenForms, op) ? rewrittenForms[op]!(request) : undefined;
}
