import { describe, expect, test } from 'vitest';
import { appendGradients } from '../../core/graph/autodiff.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { compareGradients, execute, randomTensor } from './finite-differences.ts';

describe('appendGradients', () => {
  test('adds up the gradients of a value used several times', async () => {
    const { error } = await compareGradients({
      feeds: { x: randomTensor([3, 3], 'many') },
      build: (g) => g.add(g.matMul('x', 'x'), g.mul(g.tanh('x'), g.add('x', 'x'))),
    });

    expect(error).toBeLessThan(1e-3);
  });

  test('builds no node that leads to no trainable', () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [2, 3]);
    const frozen = builder.tanh(builder.gemm(x, builder.constant(randomTensor([3, 3], 'frozen'))));
    const w = builder.input('w', 'float32', [3, 2]);
    const loss = builder.reduceSum(builder.gemm(frozen, w), undefined, false);
    const before = builder.nodes.length;

    appendGradients(builder, loss, [w]);

    const added = builder.nodes.slice(before).map((node) => node.op);
    expect(added.filter((op) => op === 'Gemm')).toHaveLength(1);
    expect(added).not.toContain('Mul');
  });

  test('gives zeros for a value that does not reach the loss', async () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [2]);
    const aside = builder.input('aside', 'float32', [2, 2]);
    const loss = builder.reduceSum(x, undefined, false);
    builder.output(appendGradients(builder, loss, [aside]).get(aside)!, 'gradient');

    const { gradient } = await execute(builder.build(), { x: floatTensor([2]), aside: floatTensor([2, 2]) });

    expect(gradient!.dims).toEqual([2, 2]);
    expect([...gradient!.data]).toEqual([0, 0, 0, 0]);
  });

  test('refuses a loss of several values', () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [2]);

    expect(() => appendGradients(builder, x, [x])).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    );
  });

  test('names the operator that it cannot differentiate', () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [2, 3]);
    const loss = builder.reduceSum(builder.sign(x), undefined, false);

    expect(() => appendGradients(builder, loss, [x])).toThrow(
      expect.objectContaining({ code: 'OPERATOR_UNSUPPORTED', message: expect.stringContaining('Sign') }),
    );
  });
});
