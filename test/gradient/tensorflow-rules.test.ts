/** Every case of the gradient table, forwards and backwards, on TensorFlow.js against ONNX Runtime. */
import * as tf from '@tensorflow/tfjs';
import { describe, expect, test } from 'vitest';
import { disagreements, tensorFlowLegs, withGradients } from './engine-parity.ts';
import { ruleCases } from './rule-cases.ts';

const tolerance = 1e-3;

describe.each(tensorFlowLegs().map((leg) => [leg.title, leg] as const))('%s', (_title, { engine }) => {
  test.each(ruleCases.map((ruleCase) => [`${ruleCase.op}: ${ruleCase.title}`, ruleCase] as const))(
    '%s',
    async (_name, ruleCase) => {
      const graph = withGradients(ruleCase);
      const tensorsBefore = tf.memory().numTensors;

      const [worst] = await disagreements(engine, graph, ruleCase.feeds);

      expect(worst!.error, worst!.output).toBeLessThan(tolerance);
      expect(tf.memory().numTensors).toBe(tensorsBefore);
    },
  );
});
