/** Cases of elementwise operators. */
import { floatTensor } from '../../../core/shared/tensor.ts';
import { randomTensor, spacedTensor, uniformTensor } from '../finite-differences.ts';
import { type RuleCase, ruleCase } from './rule-case.ts';

const x23 = { x: randomTensor([2, 3], 'x') };
const positive = { x: uniformTensor([2, 3], 'positive', 0.5, 2) };

/** Same shape, broadcasting on the right, on the left, of both, and of a scalar. */
const broadcasts: readonly (readonly [readonly number[], readonly number[]])[] = [
  [
    [2, 3],
    [2, 3],
  ],
  [
    [2, 3, 2],
    [3, 1],
  ],
  [[4], [2, 1, 4]],
  [
    [2, 1, 3],
    [4, 1],
  ],
  [[], [2, 2]],
];

function binaryCases(op: 'Add' | 'Sub' | 'Mul' | 'Div' | 'Pow'): RuleCase[] {
  return broadcasts.map(([a, b]) => {
    const feeds = { a: uniformTensor(a, `${op} a`, 0.6, 2), b: uniformTensor(b, `${op} b`, 0.6, 2) };
    return ruleCase(op, `[${a}] and [${b}]`, feeds, (g) => g.append1(op, ['a', 'b']));
  });
}

export const elementwiseCases: RuleCase[] = [
  ...binaryCases('Add'),
  ...binaryCases('Sub'),
  ...binaryCases('Mul'),
  ...binaryCases('Div'),
  ...binaryCases('Pow'),
  ...[2, 3, 0.5, -1.5].map((exponent) =>
    ruleCase('Pow', `positive values to the power ${exponent}`, positive, (g) =>
      g.pow('x', g.scalar(exponent)),
    ),
  ),
  ruleCase('Pow', 'cube of negative values', x23, (g) => g.pow('x', g.scalar(3))),
  ruleCase('Pow', 'by a constant per column', positive, (g) =>
    g.pow('x', g.constant(floatTensor([3], Float32Array.of(2, 0.5, -1)))),
  ),
  ...(['Min', 'Max'] as const).flatMap((op) => [
    ruleCase(
      op,
      'of values apart, broadcasting',
      { a: spacedTensor([3, 4], `${op} a`), b: uniformTensor([2, 1, 1], `${op} b`, 0.09, 0.11) },
      (g) => g.append1(op, ['a', 'b']),
    ),
    ruleCase(
      op,
      'of three operands',
      {
        a: spacedTensor([2, 3], 'three'),
        b: floatTensor([3], Float32Array.of(-0.1, 0, -0.1)),
        c: floatTensor([], Float32Array.of(-0.03)),
      },
      (g) => g.append1(op, ['a', 'b', 'c']),
    ),
  ]),
  ruleCase('Mul', 'a value with itself', x23, (g) => g.mul('x', 'x')),
  ruleCase('Pow', 'square of negative values', x23, (g) => g.pow('x', g.scalar(2))),
  ruleCase('Abs', 'beside the kink', { x: spacedTensor([3, 5], 'abs') }, (g) => g.abs('x')),
  ruleCase('Reciprocal', 'of positive values', positive, (g) => g.reciprocal('x')),
  ruleCase('Neg', 'of random values', x23, (g) => g.neg('x')),
  ruleCase('Sqrt', 'of positive values', positive, (g) => g.sqrt('x')),
  ruleCase('Exp', 'of random values', x23, (g) => g.exp('x')),
  ruleCase('Log', 'of positive values', positive, (g) => g.log('x')),
  ruleCase('Erf', 'of random values', x23, (g) => g.erf('x')),
  ruleCase('Identity', 'alone', x23, (g) => g.identity('x')),
  ruleCase('Cast', 'to the same type', x23, (g) => g.cast('x', 'float32')),
  ruleCase(
    'Where',
    'broadcasting, condition computed from a fixed input',
    { c: spacedTensor([2, 3], 'where'), a: randomTensor([3], 'a'), b: randomTensor([2, 1], 'b') },
    (g) => g.where(g.greater('c', g.scalar(0)), 'a', 'b'),
    ['a', 'b'],
  ),
];
