/** Cases of matrix products. */
import { randomTensor } from '../finite-differences.ts';
import { type RuleCase, ruleCase } from './rule-case.ts';

const gemmCases: RuleCase[] = [false, true].flatMap((transA) =>
  [false, true].map((transB) =>
    ruleCase(
      'Gemm',
      `transA ${transA}, transB ${transB}, alpha, beta and a row added`,
      {
        a: randomTensor(transA ? [3, 2] : [2, 3], 'gemm a'),
        b: randomTensor(transB ? [4, 3] : [3, 4], 'gemm b'),
        c: randomTensor([4], 'gemm c'),
      },
      (g) => g.gemm('a', 'b', 'c', { alpha: 0.7, beta: 1.3, transA, transB }),
    ),
  ),
);

function matMulCase(a: readonly number[], b: readonly number[]): RuleCase {
  const feeds = { a: randomTensor(a, 'mm a'), b: randomTensor(b, 'mm b') };
  return ruleCase('MatMul', `[${a}] by [${b}]`, feeds, (g) => g.matMul('a', 'b'));
}

export const linearCases: RuleCase[] = [
  ...gemmCases,
  ruleCase('Gemm', 'without a summand', { a: randomTensor([2, 3], 'a'), b: randomTensor([3, 2], 'b') }, (g) =>
    g.gemm('a', 'b'),
  ),
  matMulCase([2, 3], [3, 4]),
  matMulCase([2, 2, 3], [3, 4]),
  matMulCase([2, 3, 2], [2, 2, 3]),
  matMulCase([2, 3], [2, 3, 2]),
  matMulCase([2, 1, 2, 3], [3, 3, 2]),
  matMulCase([3], [3]),
  matMulCase([3], [3, 2]),
  matMulCase([2, 3], [3]),
  matMulCase([3], [2, 3, 2]),
  matMulCase([2, 2, 3], [3]),
  matMulCase([1, 2, 3], [4, 3, 2]),
  matMulCase([4, 2, 3], [1, 3, 2]),
];
