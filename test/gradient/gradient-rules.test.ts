import { describe, expect, test } from 'vitest';
import { appendGradients, gradientRules } from '../../core/graph/autodiff.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { compareGradients, execute, randomTensor, relativeError } from './finite-differences.ts';
import { ruleCases } from './rule-cases.ts';

const tolerance = 1e-3;

describe('gradient rules against finite differences', () => {
  test.each(ruleCases.map((ruleCase) => [`${ruleCase.op}: ${ruleCase.title}`, ruleCase] as const))(
    '%s',
    async (_title, ruleCase) => {
      const { error, forward, numeric } = await compareGradients(ruleCase);

      expect(error).toBeLessThan(tolerance);
      expect(forward.nodes.map((node) => node.op)).toContain(ruleCase.op);
      // A case whose gradients all vanish would prove nothing.
      for (const slope of numeric.values()) expect(slope.some((value) => Math.abs(value) > 0.01)).toBe(true);
    },
  );

  test('every rule of the table has a case', () => {
    const tested = new Set(ruleCases.map((ruleCase) => ruleCase.op));

    expect([...tested].sort()).toEqual(Object.keys(gradientRules).sort());
  });

  test('the comparison notices an error of one percent', async () => {
    const { analytic, numeric } = await compareGradients({
      feeds: { x: randomTensor([2, 3], 1), w: randomTensor([3, 2], 2) },
      build: (g) => g.matMul('x', 'w'),
    });
    const wrong = analytic.get('x')!.map((value) => value * 1.01);

    expect(relativeError(wrong, numeric.get('x')!)).toBeGreaterThan(tolerance);
  });
});

describe('ties', () => {
  test('the first of equal maxima in a pooling window takes the whole gradient', async () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [1, 1, 2, 4]);
    const loss = builder.reduceSum(builder.maxPool(x, [2, 2], { strides: [2, 2] }), undefined, false);
    builder.output(appendGradients(builder, loss, [x]).get(x)!, 'gradient');

    const values = floatTensor([1, 1, 2, 4], Float32Array.of(1, 1, 0, 2, 1, 1, 2, 0));
    const { gradient } = await execute(builder.build(), { x: values });

    expect([...gradient!.data]).toEqual([1, 0, 0, 1, 0, 0, 0, 0]);
  });

  test('equal maxima of a reduction share the gradient', async () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [4]);
    const loss = builder.reduceMax(x, [0], false);
    builder.output(appendGradients(builder, loss, [x]).get(x)!, 'gradient');

    const { gradient } = await execute(builder.build(), { x: floatTensor([4], Float32Array.of(3, 1, 3, 2)) });

    expect([...gradient!.data]).toEqual([0.5, 0, 0.5, 0]);
  });
});
