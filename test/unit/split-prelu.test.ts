import { describe, expect, test } from 'vitest';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { splitPrelu } from '../../core/graph/optimise/split-activations.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { execute, randomTensor } from '../gradient/finite-differences.ts';

const x = randomTensor([2, 3, 4, 5], 'prelu');

function network(slopes: readonly number[], fed: boolean) {
  const slope = floatTensor([3, 1, 1], Float32Array.from(slopes));
  const builder = new GraphBuilder();
  builder.input('x', 'float32', x.dims);
  if (fed) builder.input('slope', 'float32', slope.dims);
  else builder.constant(slope, 'slope');
  const y = builder.append1('PRelu', [builder.mul('x', builder.scalar(2)), 'slope']);
  builder.output(y, 'y');
  return { graph: builder.build(), feeds: fed ? { x, slope } : { x } };
}

describe('splitPrelu', () => {
  test.each<[string, readonly number[], boolean, string[]]>([
    ['constant slopes within 0 and 1', [0, 0.25, 1], false, ['Mul', 'Mul', 'Max', 'Identity']],
    ['constant slopes beyond', [-0.5, 0.25, 1.5], false, ['Mul', 'Min', 'Mul', 'Relu', 'Add', 'Identity']],
    ['fed slopes', [0.1, 0.2, 0.3], true, ['Mul', 'Min', 'Mul', 'Relu', 'Add', 'Identity']],
  ])('%s give the same values without PRelu', async (_title, slopes, fed, ops) => {
    const { graph, feeds } = network(slopes, fed);

    const split = splitPrelu(graph);
    const expected = await execute(graph, feeds);
    const found = await execute(split, feeds);

    expect(split.nodes.map(({ op }) => op)).toEqual(ops);
    expect(split.outputs).toEqual(['y']);
    // Zeros may differ in their sign, which means nothing.
    const values = (results: typeof found) => Array.from(results['y']!.data as Float32Array, (v) => v + 0);
    expect(values(found)).toEqual(values(expected));
  });

  test('a graph without PRelu is left as it is', () => {
    const builder = new GraphBuilder();
    builder.output(builder.relu(builder.input('x', 'float32', [2])));
    const graph = builder.build();

    expect(splitPrelu(graph)).toBe(graph);
  });
});
