/** What a run must be compared with, and what is said of a run that ends below it. */
import { expect, test } from 'vitest';
import { belowFloor, describeFloors, exportedFigures, floorsOf } from '../../core/evaluation/floors.ts';
import { mergeCounts } from '../../core/evaluation/merge-counts.ts';
import { metricsOf } from '../../core/evaluation/metrics.ts';

const galleryOf = (rank1: number) =>
  metricsOf(
    mergeCounts(
      [
        {
          ...{ smallCell: 1, classes: 2, total: 1000, correct: 0, top5: null },
          ...{ perClass: null, calibration: null, scores: null },
          gallery: { rank1, rank5: null, rank10: null, rank30: null, perClass: null, rare: null },
        },
      ],
      2,
    ),
  ).gallery;

interface Case {
  untrained: number | null;
  accuracies: (number | null)[];
  headStart?: 'prototypes' | 'random';
  smallCell?: number;
  isOver?: boolean;
}

function floors({ untrained, accuracies, headStart, smallCell = 1, isOver = true }: Case) {
  return floorsOf({
    config: { smallCell, ...(headStart !== undefined && { headStart }) },
    untrained: untrained === null ? null : galleryOf(untrained),
    accuracies,
    isOver,
  });
}

test.each<[string, Case, string | null]>([
  [
    'below the nearest neighbour',
    { untrained: 970, accuracies: [0.5, 0.76] },
    'The run ends at 76.0 %, below its own untrained nearest neighbour (97.0 %).',
  ],
  [
    'below what noise lets know',
    { untrained: 970, accuracies: [0.76], smallCell: 5 },
    'The run ends at 76.0 %, below its own untrained nearest neighbour (about 97.0 %).',
  ],
  [
    'below its class means alone',
    { untrained: 600, accuracies: [0.72, 0.8, 0.68], headStart: 'prototypes' },
    'The run ends at 68.0 %, below its own class means before training (72.0 %).',
  ],
  [
    'below both',
    { untrained: 970, accuracies: [1, 0.9], headStart: 'prototypes' },
    'The run ends at 90.0 %, below its own untrained nearest neighbour (97.0 %) and its class means before training (100.0 %).',
  ],
  ['at both', { untrained: 970, accuracies: [0.97, 0.97], headStart: 'prototypes' }, null],
  ['at the same but for a last digit', { untrained: 970, accuracies: [0.97 - 1e-12] }, null],
  ['above', { untrained: 970, accuracies: [0.5, 0.99] }, null],
  ['below the first round of a random start', { untrained: null, accuracies: [0.9, 0.5] }, null],
  ['not known', { untrained: 970, accuracies: [0.9, null] }, null],
  ['without a floor', { untrained: null, accuracies: [0.5] }, null],
  ['not over', { untrained: 970, accuracies: [0.5], isOver: false }, null],
])('a run that ends %s', (_what, given, said) => {
  expect(belowFloor(floors(given))).toBe(said);
});

test('all that is known stands in one line', () => {
  const given: Case = { untrained: 589, accuracies: [0.722, 0.9], headStart: 'prototypes' };

  expect(describeFloors(floors(given))).toBe(
    'Before training: untrained nearest neighbour 58.9 %, class means 72.2 %; at the end 90.0 %.',
  );
  expect(describeFloors(floors({ ...given, isOver: false, smallCell: 5 }))).toBe(
    'Before training: untrained nearest neighbour about 58.9 %, class means about 72.2 %.',
  );
  expect(describeFloors(floors({ untrained: null, accuracies: [] }))).toBeNull();
});

test('an exported state says what it is worth', () => {
  const given: Case = { untrained: 970, accuracies: [1, 0.9], headStart: 'prototypes' };

  expect(exportedFigures(floors(given))).toEqual({
    ...{ accuracy: 0.9, untrained: 0.97, classMeans: 1, isRough: false },
    belowFloor: expect.stringContaining('below its own'),
  });
  expect(exportedFigures(floors({ ...given, accuracies: [1, 1] }))).not.toHaveProperty('belowFloor');
});
