/** Cases of reductions. */
import { randomTensor, spacedTensor } from '../finite-differences.ts';
import { type RuleCase, ruleCase } from './rule-case.ts';

const axesCases: readonly (readonly [string, readonly number[] | undefined, boolean])[] = [
  ['last axis kept', [-1], true],
  ['two axes dropped', [0, 2], false],
  ['all axes', undefined, false],
];

export const reductionCases: RuleCase[] = [
  ...axesCases.flatMap(([title, axes, keep]) => [
    ruleCase('ReduceSum', title, { x: randomTensor([2, 3, 4], 's') }, (g) => g.reduceSum('x', axes, keep)),
    ruleCase('ReduceMean', title, { x: randomTensor([2, 3, 4], 'm') }, (g) => g.reduceMean('x', axes, keep)),
    ruleCase('ReduceMin', title, { x: spacedTensor([2, 3, 4], 'n') }, (g) =>
      g.append1('ReduceMin', ['x', ...(axes ? [g.integers(axes)] : [])], { keepdims: keep ? 1 : 0 }),
    ),
    ruleCase('ReduceL2', title, { x: randomTensor([2, 3, 4], 'l') }, (g) => g.reduceL2('x', axes, keep)),
    ruleCase('ReduceLogSumExp', title, { x: randomTensor([2, 3, 4], 'e') }, (g) =>
      g.append1('ReduceLogSumExp', ['x', ...(axes ? [g.integers(axes)] : [])], { keepdims: keep ? 1 : 0 }),
    ),
    ruleCase('ReduceMax', title, { x: spacedTensor([2, 3, 4], 'x') }, (g) => g.reduceMax('x', axes, keep)),
  ]),
];
