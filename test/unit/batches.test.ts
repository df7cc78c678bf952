import { describe, expect, test } from 'vitest';
import { augmentationSettingsSchema } from '../../core/config/local-training.ts';
import {
  countSteps,
  cutBatch,
  type Draw,
  drawBatches,
  sequentialBatches,
} from '../../core/engine/batches.ts';

describe('drawBatches', () => {
  const options = {
    examples: 10,
    epochs: 3,
    batchSize: 4,
    seed: 1,
    augmentation: augmentationSettingsSchema.parse({}),
  };

  test('shows every example once per epoch, in full batches but for the last', () => {
    const batches = [...drawBatches(options)];

    expect(batches.map((batch) => batch.length)).toEqual([4, 4, 4, 4, 4, 4, 4, 2]);
    expect(batches.length).toBe(countSteps(options));
    const indices = batches.flat().map((draw) => draw.index);
    for (let epoch = 0; epoch < 3; epoch++) {
      expect(indices.slice(10 * epoch, 10 * epoch + 10).sort((a, b) => a - b)).toEqual([...Array(10).keys()]);
    }
    expect(indices.slice(0, 10)).not.toEqual(indices.slice(10, 20));
  });

  test('repeats with the same seed and differs with another', () => {
    expect([...drawBatches(options)]).toEqual([...drawBatches(options)]);
    expect([...drawBatches({ ...options, seed: 2 })]).not.toEqual([...drawBatches(options)]);
  });

  test('takes parts of epochs', () => {
    const batches = [...drawBatches({ ...options, epochs: 0.5 })];
    expect(batches.flat()).toHaveLength(5);
    expect(batches).toHaveLength(countSteps({ ...options, epochs: 0.5 }));
  });

  test('sequentialBatches keeps the order', () => {
    expect([...sequentialBatches(5, 2)].map((batch) => batch.map((draw) => draw.index))).toEqual([
      [0, 1],
      [2, 3],
      [4],
    ]);
  });
});

describe('cutBatch', () => {
  const draws = (count: number): Draw[] =>
    Array.from({ length: count }, (_, index) => ({ index, augmentation: undefined }));

  test('cuts into parts that are never empty and know their place', () => {
    const parts = cutBatch(draws(7), 3, () => 1);

    expect(parts.map((part) => part.draws.map((draw) => draw.index))).toEqual([[0, 1, 2], [3, 4, 5], [6]]);
    expect(parts.map(({ offset, last }) => [offset, last])).toEqual([
      [0, false],
      [3, false],
      [6, true],
    ]);
    expect(cutBatch(draws(6), 3, () => 1)).toHaveLength(2);
  });

  test('weights are shares of the whole batch, not of the part', () => {
    const parts = cutBatch(draws(4), 3, ({ index }) => index + 1);

    expect(parts.flatMap((part) => part.weights)).toEqual([0.1, 0.2, 0.3, 0.4]);
  });
});
