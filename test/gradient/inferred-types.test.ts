import { describe, expect, test } from 'vitest';
import { appendGradients } from '../../core/graph/autodiff.ts';
import { buildForward, execute } from './finite-differences.ts';
import { ruleCases } from './rule-cases.ts';

describe('inferred types agree with what ONNX Runtime computes', () => {
  test.each(ruleCases.map((ruleCase) => [`${ruleCase.op}: ${ruleCase.title}`, ruleCase] as const))(
    '%s, forward and backward',
    async (_title, ruleCase) => {
      const { builder, output } = buildForward(ruleCase);
      const loss = builder.reduceSum(output, undefined, false);
      appendGradients(builder, loss, ruleCase.wrt ?? Object.keys(ruleCase.feeds));
      const values = builder.nodes.flatMap((node) => node.outputs);
      for (const value of values) builder.output(value);
      const graph = builder.build();

      const results = await execute(graph, ruleCase.feeds);

      for (const value of values) {
        const { dtype, dims } = results[value]!;
        expect({ value, dtype, dims }).toEqual({ value, ...graph.types.get(value)! });
      }
    },
  );
});
