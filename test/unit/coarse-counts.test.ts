/** What leaves while a run goes on is coarser than what leaves at its end. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { evaluationCountsSchema } from '../../core/evaluation/check-counts.ts';
import { coarseCounts } from '../../core/evaluation/coarse-counts.ts';
import { suppressSmallCells } from '../../core/evaluation/suppress-small-cells.ts';
import { roundedCount } from '../../core/site/site-records.ts';
import { evaluated } from '../fixtures/evaluation/evaluated.ts';

const limits = fc.integer({ min: 3, max: 12 });

test('they are multiples of k, nothing finer than totals, and the coordinator takes them', () => {
  fc.assert(
    fc.property(fc.oneof(evaluated(2), evaluated(4), evaluated(7)), limits, (counts, k) => {
      const exact = suppressSmallCells(counts, k);

      const shown = coarseCounts(exact);

      expect(evaluationCountsSchema.parse(shown)).toEqual(shown);
      const { total, correct, top5, perClass, calibration, scores } = shown;
      for (const [coarse, fine] of [
        [total, exact.total],
        [correct, exact.correct],
        [top5 ?? 0, exact.top5 ?? 0],
      ] as const) {
        expect(coarse % k).toBe(0);
        expect(Math.abs(coarse - fine)).toBeLessThanOrEqual(k / 2);
      }
      expect([perClass, calibration, scores]).toEqual([null, null, null]);
    }),
    { numRuns: 300 },
  );
});

test('one image more or less that is right seldom changes them, and never by less than k', () => {
  const counts = { smallCell: 5, classes: 2, top5: null, perClass: null, calibration: null, scores: null };
  const shown = Array.from(
    { length: 51 },
    (_, correct) => coarseCounts({ ...counts, total: 60, correct }).correct,
  );

  const changes = shown.slice(1).map((correct, index) => correct - shown[index]!);

  expect(new Set(changes)).toEqual(new Set([0, 5]));
  expect(changes.filter((change) => change !== 0)).toHaveLength(10);
});

test('under a limit of one, which hides nothing, they stay as they are', () => {
  const [counts] = fc.sample(evaluated(3), { seed: 1, numRuns: 1 });
  const exact = suppressSmallCells(counts!, 1);

  expect(coarseCounts(exact)).toBe(exact);
});

test('the number of training images leaves as a multiple of k, never as zero', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 20 }), (images, k) => {
      const said = roundedCount(images, k);
      expect(said % k).toBe(0);
      expect(said).toBeGreaterThanOrEqual(k);
      expect(Math.abs(said - images)).toBeLessThanOrEqual(Math.max(k / 2, k - images));
    }),
  );
  expect([12, 13, 1].map((images) => roundedCount(images, 5))).toEqual([10, 15, 5]);
});
