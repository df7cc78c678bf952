import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createEvaluationTally } from '../../core/engine/evaluation-tally.ts';
import { evaluationCountsSchema } from '../../core/evaluation/check-counts.ts';
import type { EvaluationCounts } from '../../core/evaluation/counts.ts';
import { mergeCounts } from '../../core/evaluation/merge-counts.ts';
import { metricsOf } from '../../core/evaluation/metrics.ts';
import { suppressSmallCells } from '../../core/evaluation/suppress-small-cells.ts';
import { attackAll } from '../fixtures/evaluation/attack.ts';
import { evaluated } from '../fixtures/evaluation/evaluated.ts';

const limits = fc.integer({ min: 3, max: 12 });
const isSmall = (cell: number, k: number) => cell > 0 && cell < k;

/** Every sum of some of these, each with its sign; tables of a few rows only. */
function signedSums(cells: readonly number[]): Set<number> {
  let sums = new Set([0]);
  for (const cell of cells) sums = new Set([...sums].flatMap((sum) => [sum - cell, sum, sum + cell]));
  return sums;
}

describe('whoever knows the rule and tries every table of images that could lie behind what was published', () => {
  test.each([
    [2, 3, 15],
    [2, 4, 18],
    [2, 5, 20],
    [3, 3, 9],
  ])('learns no cell of %i classes below %i, up to %i images', (classes, smallCell, images) => {
    const { published, revealed } = attackAll(classes, smallCell, images);

    expect(published).toBeGreaterThan(100);
    expect(revealed).toEqual([]);
  });
});

describe('what leaves a site', () => {
  test('passes the schema and has no small cell, nor a small difference of a cell and a part of it', () => {
    fc.assert(
      fc.property(evaluated(7), limits, (counts, k) => {
        const shown = suppressSmallCells(counts, k);

        expect(evaluationCountsSchema.parse(shown)).toEqual(shown);
        const { total, correct, top5, perClass, calibration } = shown;
        const cells = [total, correct, total - correct];
        if (top5 !== null) cells.push(top5, top5 - correct, total - top5);
        for (const row of perClass ?? []) {
          if (row.total !== null) cells.push(row.total, total - row.total);
          if (row.total !== null && row.correct !== null)
            cells.push(row.correct, row.total - row.correct, correct - row.correct);
          if (row.predicted !== null && row.total !== null && row.correct !== null)
            cells.push(
              row.predicted - row.correct,
              total - correct - (row.total - row.correct) - (row.predicted - row.correct),
            );
        }
        for (const block of calibration ?? []) cells.push(block.correct, block.total - block.correct);
        expect(cells.filter((cell) => isSmall(cell, k) || cell < 0)).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });

  test('what a column leaves out is 0 or at least k in sum', () => {
    fc.assert(
      fc.property(evaluated(5), limits, (counts, k) => {
        const { perClass } = suppressSmallCells(counts, k);

        for (const column of ['total', 'correct'] as const) {
          const hidden = counts.perClass!.filter((_, index) => perClass?.[index]?.[column] == null);
          const sum = (cellOf: (row: (typeof hidden)[number]) => number) =>
            hidden.reduce((known, row) => known + cellOf(row), 0);
          if (hidden.length === 5 || hidden.length === 0) continue;
          expect(
            isSmall(
              sum((row) => row.total!),
              k,
            ),
          ).toBe(false);
          if (column === 'correct') {
            expect(
              isSmall(
                sum((row) => row.correct!),
                k,
              ),
            ).toBe(false);
            expect(
              isSmall(
                sum((row) => row.total! - row.correct!),
                k,
              ),
            ).toBe(false);
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  test('scores are multiples of k, so that sums and differences of them are, too', () => {
    fc.assert(
      fc.property(evaluated(3), limits, (counts, k) => {
        const { scores } = suppressSmallCells(counts, k);

        const cells = (scores ?? []).flatMap((row) => row ?? []).flatMap(([, , p, n]) => [p, n]);
        const sums = signedSums(cells.slice(0, 6));
        expect([...sums].filter((sum) => isSmall(sum, k))).toEqual([]);
        expect(cells.every((cell) => cell % k === 0)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test('of fewer than k images nothing leaves', () => {
    fc.assert(
      fc.property(evaluated(6, 3), (counts) => {
        expect(suppressSmallCells(counts, counts.total + 2)).toEqual({
          smallCell: Math.max(3, counts.total + 2),
          classes: 6,
          total: 0,
          correct: 0,
          top5: null,
          perClass: null,
          calibration: null,
          scores: null,
        });
      }),
    );
  });

  test('a limit of 1 hides nothing; 2 is taken as 3; a second time is refused', () => {
    const counts = fc.sample(evaluated(4), { seed: 1, numRuns: 1 })[0]!;

    expect(suppressSmallCells(counts, 1)).toBe(counts);
    expect(suppressSmallCells(counts, 2)).toEqual(suppressSmallCells(counts, 3));
    expect(() => suppressSmallCells(suppressSmallCells(counts, 3), 3)).toThrow(
      expect.objectContaining({ code: 'INTERNAL' }),
    );
  });

  test('of large cells all is released, and the figures of classes are those without the rule', () => {
    const counts = createEvaluationTally(3);
    for (let i = 0; i < 300; i++) {
      const label = i % 3;
      const taken = i % 4 === 0 ? (label + 1 + ((i >> 2) % 2)) % 3 : label;
      counts.count(
        label,
        Float32Array.from({ length: 3 }, (_, c) => (c === taken ? 1 + (i % 7) : (i * c) % 2)),
      );
    }
    const full = metricsOf(mergeCounts([counts.counts()], 3));

    const shown = metricsOf(mergeCounts([suppressSmallCells(counts.counts(), 5)], 3));

    const { accuracy, macroF1, perClassRecall, coverage } = full;
    // Scores are rounded to multiples of 5, and with them the images behind the AUC.
    expect(shown).toMatchObject({ accuracy, macroF1, perClassRecall });
    expect(shown.coverage).toEqual({ ...coverage, macroAuc: expect.any(Number) });
    expect(shown.coverage.macroAuc).toBeGreaterThan(0.9);
    expect(Math.abs(shown.calibrationError! - full.calibrationError!)).toBeLessThan(0.03);
    expect(Math.abs(shown.macroAuc! - full.macroAuc!)).toBeLessThan(0.03);
  });
});

describe('counts from outside', () => {
  const fair = (): EvaluationCounts => ({
    smallCell: 5,
    classes: 2,
    total: 40,
    correct: 30,
    top5: null,
    perClass: [
      { total: 20, correct: 15, predicted: 20 },
      { total: 20, correct: 15, predicted: 20 },
    ],
    calibration: [
      { confidence: 60, total: 20, correct: 10 },
      { confidence: 90, total: 20, correct: 20 },
    ],
    scores: [
      [
        [0, 15, 5, 15],
        [16, 31, 15, 5],
      ],
      null,
    ],
  });
  const set = (change: (counts: EvaluationCounts) => void) => {
    const counts = fair();
    change(counts);
    return evaluationCountsSchema.safeParse(counts).error?.issues[0]?.message;
  };

  test('are taken when they fit together', () => {
    expect(set(() => {})).toBeUndefined();
  });

  test.each<[string, (counts: EvaluationCounts) => void, RegExp]>([
    ['more right than there are', (c) => (c.correct = 45), /more images are right/],
    ['a small total of right ones', (c) => (c.correct = 3), /below the small-cell limit/],
    ['a small total of wrong ones', (c) => (c.correct = 38), /below the small-cell limit/],
    ['five of two classes', (c) => (c.top5 = 35), /five classes or fewer/],
    ['a row too many', (c) => c.perClass!.push(c.perClass![0]!), /as many rows/],
    ['class totals above the total', (c) => (c.perClass![0]!.total = 30), /more images than/],
    ['class totals below the total', (c) => (c.perClass![0]!.total = 15), /fewer images than/],
    ['more right of a class than it has', (c) => (c.perClass![0]!.correct = 25), /more right answers/],
    ['a small cell of a class', (c) => (c.perClass![0]!.correct = 17), /below the small-cell limit/],
    ['right answers without images', (c) => (c.perClass![0]!.total = null), /without images/],
    ['confidences that do not add up', (c) => c.calibration!.pop(), /do not add up/],
    ['confidences out of order', (c) => c.calibration!.reverse(), /ascend/],
    ['a small cell of a confidence', (c) => (c.calibration![1]!.correct = 18), /below the small-cell/],
    ['scores that do not add up', (c) => c.scores![0]!.pop(), /do not add up to all/],
    ['scores of another class', (c) => (c.scores![0]![0] = [0, 15, 15, 5]), /of their class/],
    ['scores that are not rounded', (c) => (c.scores![0]![0] = [0, 15, 6, 14]), /no multiple/],
    ['score bins that overlap', (c) => (c.scores![0]![0] = [0, 16, 5, 15]), /bins do not ascend/],
    ['too few rows of scores', (c) => c.scores!.pop(), /rows of scores/],
    ['a bin beyond the last', (c) => (c.scores![0]![1] = [16, 32, 15, 5]), /./],
    ['a negative count', (c) => (c.total = -1), /./],
    ['a part of an image', (c) => (c.correct = 30.5), /./],
    ['unheard-of fields', (c) => Object.assign(c, { name: 'x' }), /Unrecognized/],
    ['more than 1000 classes', (c) => (c.perClass = Array(1001).fill(c.perClass![0]!)), /./],
  ])('are refused: %s', (_, change, message) => {
    expect(set(change)).toMatch(message);
  });
});
