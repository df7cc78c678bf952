/** Cases of operators that move values. */
import type { GraphBuilder } from '../../../core/graph/graph-builder.ts';
import { randomTensor } from '../finite-differences.ts';
import { type RuleCase, ruleCase, x234 } from './rule-case.ts';

const indices = (g: GraphBuilder, values: readonly number[], dims: readonly number[]) =>
  g.constant({ dtype: 'int64', dims, data: BigInt64Array.from(values, BigInt) });

export const shapeCases: RuleCase[] = [
  ruleCase('Reshape', 'with -1 and 0', x234, (g) => g.reshape('x', [0, -1])),
  ruleCase('Flatten', 'at axis 2', x234, (g) => g.flatten('x', 2)),
  ruleCase('Squeeze', 'two axes', { x: randomTensor([1, 3, 1], 'sq') }, (g) => g.squeeze('x', [0, -1])),
  ruleCase('Unsqueeze', 'two axes', { x: randomTensor([3, 2], 'us') }, (g) => g.unsqueeze('x', [0, -1])),
  ruleCase('Transpose', 'cyclic', x234, (g) => g.transpose('x', [1, 2, 0])),
  ruleCase('Transpose', 'without permutation', x234, (g) => g.transpose('x')),
  ruleCase('Slice', 'from the middle', x234, (g) => g.slice('x', [1, -3], [3, 100], [1, 2])),
  ruleCase('Slice', 'every second and third', { x: randomTensor([5, 8], 'st') }, (g) =>
    g.slice('x', [1, 0], [5, 8], [0, 1], [2, 3]),
  ),
  ruleCase('Slice', 'backwards by two', { x: randomTensor([3, 6], 'back') }, (g) =>
    g.slice('x', [-1, 4], [-4, 0], [0, 1], [-1, -2]),
  ),
  ruleCase(
    'Concat',
    'three values, one of them twice',
    { x: randomTensor([2, 3], 'c1'), y: randomTensor([2, 2], 'c2') },
    (g) => g.concat(['x', 'y', 'x'], -1),
  ),
  ruleCase('Split', 'all pieces used', { x: randomTensor([2, 5], 'sp') }, (g) => {
    const [first, second] = g.split('x', [2, 3], -1);
    return g.concat([g.mul(second!, second!), first!], 1);
  }),
  ruleCase('Split', 'only the second piece used', { x: randomTensor([5, 2], 'sp2') }, (g) => {
    const [, second] = g.split('x', [1, 3, 1], 0);
    return g.mul(second!, second!);
  }),
  ruleCase('Pad', 'all sides', x234, (g) => g.pad('x', [0, 1, 2, 1, 0, 1], 3)),
  ruleCase('Pad', 'cropping one side', x234, (g) => g.pad('x', [0, -1, 2, 0, 0, -1])),
  ruleCase('Gather', 'a row twice and from the end', { x: randomTensor([4, 3], 'ga') }, (g) =>
    g.gather('x', indices(g, [0, 2, 2, -1], [2, 2])),
  ),
  ruleCase('Gather', 'a scalar index of the middle axis', x234, (g) => g.gather('x', indices(g, [1], []), 1)),
  ruleCase('Gather', 'one index from the end', x234, (g) => g.gather('x', indices(g, [-1], [1]), 2)),
  ruleCase('Gather', 'every second row backwards', { x: randomTensor([6, 2], 'gb') }, (g) =>
    g.gather('x', indices(g, [5, 3, 1], [3])),
  ),
  ruleCase('Gather', 'rows in no order, indices of rank 2', { x: randomTensor([2, 5], 'gr') }, (g) =>
    g.gather('x', indices(g, [4, 0, 0, 2], [2, 2]), -1),
  ),
  ruleCase(
    'Split',
    'even pieces without sizes, the last one smaller',
    { x: randomTensor([2, 5], 'sp3') },
    (g) => {
      const [first, second] = g.append('Split', ['x'], { axis: 1 }, 2);
      return g.concat([second!, g.mul(first!, first!)], 1);
    },
  ),
  ruleCase('Pad', 'listed axes only', x234, (g) =>
    g.append1('Pad', ['x', g.integers([1, 2, 0, 1]), '', g.integers([-1, 0])], { mode: 'constant' }),
  ),
  ruleCase('Expand', 'new and stretched axes', { x: randomTensor([3, 1], 'ex') }, (g) =>
    g.expand('x', [2, 3, 4]),
  ),
];
