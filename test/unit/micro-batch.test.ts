import { describe, expect, test } from 'vitest';
import { classPrior, classWeights } from '../../core/engine/class-weights.ts';
import { planCompute } from '../../core/engine/compute-plan.ts';
import { chooseMicroBatch, peakBytes, stepMemory } from '../../core/engine/micro-batch.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor } from '../../core/shared/tensor.ts';

/** relu(x·W)·W summed: values of [batch, 4] and [batch, 8]. */
function smallGraph(batch: number) {
  const builder = new GraphBuilder();
  const x = builder.input('x', 'float32', [batch, 4]);
  const wide = builder.relu(builder.matMul(x, builder.constant(floatTensor([4, 8]))));
  builder.output(builder.reduceSum(wide, undefined, false), 'sum');
  return builder.build();
}

describe('peakBytes', () => {
  test('counts weights, inputs and what is alive at the same time', () => {
    // Weight 4·8, x batch·4, and while Relu runs its input and its output, batch·8 each.
    expect(peakBytes(smallGraph(1))).toBe(4 * (32 + 4 + 16));
    expect(peakBytes(smallGraph(10))).toBe(4 * (32 + 40 + 160));
  });

  test('of two batch sizes gives what is fixed and what an image takes', () => {
    const at = (batch: number) => ({ batch, peakBytes: peakBytes(smallGraph(batch)) });
    expect(stepMemory(at(1), at(10))).toEqual({ fixedBytes: 4 * 32, bytesPerImage: 4 * 20 });
  });
});

describe('chooseMicroBatch', () => {
  const question = { batchSize: 32, fixedBytes: 100, bytesPerImage: 10 };
  const choose = (memoryBudgetBytes: number, changes = {}) =>
    chooseMicroBatch({ ...question, memoryBudgetBytes, ...changes });

  test.each([
    ['plenty of memory', 1e6, 32],
    ['no known limit', Number.POSITIVE_INFINITY, 32],
    ['room for 20, in two parts of the same size', 2 * (100 + 205), 16],
    ['room for 12, in three parts of about the same size', 2 * (100 + 120), 11],
    ['room for one', 2 * (100 + 10), 1],
    ['room for none: one is tried all the same', 50, 1],
  ])('%s', (_, budget, expected) => {
    expect(choose(budget)).toBe(expected);
  });

  test('keeps to the most that is wanted at once', () => {
    expect(choose(1e6, { most: 8 })).toBe(8);
    expect(choose(1e6, { most: 7 })).toBe(7);
    expect(choose(1e6, { most: 100 })).toBe(32);
  });
});

describe('planCompute', () => {
  test('takes what the job asks for, but never more than the batch', () => {
    const plan = (microBatch: number) =>
      planCompute({ device: 'cpu', threads: 2, microBatch }, 8, (batch) => peakBytes(smallGraph(batch)));
    expect(plan(3)).toEqual({ device: 'cpu', microBatch: 3, lanes: 1 });
    expect(plan(30)).toEqual({ device: 'cpu', microBatch: 8, lanes: 1 });
  });

  test('else follows the memory, and is the same every time', () => {
    const budget = 2 * 4 * (32 + 20 * 5);
    expect(
      planCompute({ device: 'cpu', threads: 2, memoryBudgetBytes: budget }, 8, (batch) =>
        peakBytes(smallGraph(batch)),
      ).microBatch,
    ).toBe(4);
    expect(planCompute({ device: 'cpu', threads: 2 }, 8, (batch) => peakBytes(smallGraph(batch)))).toEqual({
      device: 'cpu',
      microBatch: 8,
      lanes: 1,
    });
    expect(planCompute({ device: 'cuda', threads: 2 }, 8, (batch) => peakBytes(smallGraph(batch)))).toEqual({
      device: 'cuda',
      microBatch: 8,
      lanes: 1,
    });
  });
});

describe('classWeights', () => {
  const labels = [0, 0, 0, 0, 0, 0, 1, 1, 3];

  test('balanced: classes weigh the same in all, the mean is 1, an absent class has none', () => {
    const weights = classWeights(labels, 4, 'balanced');
    expect(weights[0]! * 6).toBeCloseTo(weights[1]! * 2, 10);
    expect(weights[1]! * 2).toBeCloseTo(weights[3]!, 10);
    expect(weights[2]).toBe(0);
    expect(labels.reduce((sum, label) => sum + weights[label]!, 0)).toBeCloseTo(labels.length, 10);
  });

  test('balanced: a single odd image does not outweigh everything', () => {
    const weights = classWeights([...Array(500).fill(0), 1], 2, 'balanced');
    expect(weights[1]! / weights[0]!).toBeCloseTo(10, 10);
  });

  test('none: all are 1', () => {
    expect([...classWeights(labels, 4, 'none')]).toEqual([1, 1, 1, 1]);
  });

  test('the prior is uniform without adjustment, else the shares, never 0', () => {
    expect([...classPrior(labels, 4, false)]).toEqual([0.25, 0.25, 0.25, 0.25]);
    const prior = classPrior(labels, 4, true);
    expect(prior[0]).toBeCloseTo(6.1 / 9.4, 6);
    expect(prior[2]).toBeGreaterThan(0);
    expect(prior.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6);
  });
});
