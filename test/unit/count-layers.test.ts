import { describe, expect, test } from 'vitest';
import { countLayers } from '../../core/graph/count-layers.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { createCatalogue, defaultBaseId } from '../../core/models/catalogue.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { leakyBases } from '../fixtures/leaky-networks.ts';

describe('the depth of a graph', () => {
  test('counts layers with weights, of two ways the longer', () => {
    const builder = new GraphBuilder();
    const weight = () => builder.constant(floatTensor([4, 4]));
    const x = builder.input('x', 'float32', [2, 4]);
    const long = builder.relu(builder.gemm(builder.relu(builder.gemm(x, weight())), weight()));
    builder.output(builder.add(long, builder.gemm(x, weight())), 'y');

    expect(countLayers(builder.build())).toBe(2);
  });

  test('a weight may be turned first; the product of two values that both come from the input is no layer', () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [4, 4]);
    const turned = builder.transpose(builder.constant(floatTensor([4, 4])), [1, 0]);
    const queries = builder.matMul(x, turned);
    builder.output(builder.matMul(queries, builder.transpose(x, [1, 0])), 'y');

    expect(countLayers(builder.build())).toBe(1);
  });

  test('what does not lead to the output does not count', () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [2, 4]);
    builder.gemm(x, builder.constant(floatTensor([4, 4])));
    builder.output(builder.relu(x), 'y');

    expect(countLayers(builder.build())).toBe(0);
  });

  test('networks have the depth that their names promise', async () => {
    const faces = await createCatalogue().load(defaultBaseId);

    expect(countLayers(faces.buildGraph(1))).toBe(30);
    expect(leakyBases.map((base) => countLayers(base.buildGraph(1)))).toEqual([0, 1, 0, 1, 1]);
  });
});
