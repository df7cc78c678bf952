/** What leaves while a run goes on is coarser than what leaves at its end. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { evaluationCountsSchema } from '../../core/evaluation/check-counts.ts';
import { coarseCounts } from '../../core/evaluation/coarse-counts.ts';
import { createRandom, type Random } from '../../core/shared/random.ts';
import { roundedCount } from '../../core/site/site-records.ts';
import { evaluated } from '../fixtures/evaluation/evaluated.ts';

const limits = fc.integer({ min: 3, max: 12 });

/** What is rounded when no noise comes out. */
const silent = { normal: () => 0 };

test('they are multiples of k, nothing finer than totals, and the coordinator takes them', () => {
  const random = createRandom(1);
  fc.assert(
    fc.property(fc.oneof(evaluated(2), evaluated(4), evaluated(7)), limits, (counts, k) => {
      const shown = coarseCounts(counts, k, random);
      const rounded = coarseCounts(counts, k, silent);

      for (const { total, correct, top5, perClass, calibration, scores } of [shown, rounded]) {
        expect([total % k, correct % k, (top5 ?? 0) % k]).toEqual([0, 0, 0]);
        expect([perClass, calibration, scores]).toEqual([null, null, null]);
      }
      expect(evaluationCountsSchema.parse(shown)).toEqual(shown);
      expect(shown.total).toBe(rounded.total);
      if (counts.total < k) expect(rounded).toMatchObject({ total: 0, correct: 0, top5: null });
      else {
        expect(Math.abs(rounded.total - counts.total)).toBeLessThanOrEqual(k / 2);
        expect(Math.abs(rounded.correct - counts.correct)).toBeLessThanOrEqual(k / 2);
      }
    }),
    { numRuns: 300 },
  );
});

const totals = { smallCell: 1, classes: 2, top5: null, perClass: null, calibration: null, scores: null };
const answerTo = (correct: number, noise: Pick<Random, 'normal'>, total = 60, k = 5) =>
  coarseCounts({ ...totals, total, correct }, k, noise).correct;

test('one image more or less makes no answer more than e^(1/k) times as likely, and on average they are right', () => {
  const random = createRandom(2);
  const draws = 100_000;
  const histogram = (correct: number) => {
    const answers = Array.from({ length: draws }, () => answerTo(correct, random));
    return Map.groupBy(answers, (answer) => answer);
  };
  for (const correct of [0, 2, 30, 59]) {
    const [before, after] = [histogram(correct), histogram(correct + 1)];
    for (const [answer, { length }] of before) {
      const other = after.get(answer)?.length ?? 0;
      if (length < 2_000) continue;
      // Four standard deviations of what chance alone does.
      const chance = 4 * Math.sqrt(1 / length + 1 / other);
      expect(Math.abs(Math.log(length / other))).toBeLessThan(1 / 5 + chance);
    }
  }
  const middle = Array.from({ length: draws }, () => answerTo(30, random));
  expect(middle.reduce((sum, answer) => sum + answer, 0) / draws).toBeCloseTo(30, 0);
});

/**
 * The coordinator puts a threshold on the projections of 60 images in each round, and halves the interval in which the rounded
 * total jumps. @returns how near it comes to the projection of an image
 */
function bisect(noise: Pick<Random, 'normal'>, rounds: number): number {
  const random = createRandom(3);
  const projections = Array.from({ length: 60 }, () => random.normal());
  let [low, high] = [-4, 4];
  for (let round = 0; round < rounds; round++) {
    const middle = (low + high) / 2;
    const beyond = projections.filter((projection) => projection > middle).length;
    if (answerTo(beyond, noise) >= 30) low = middle;
    else high = middle;
  }
  return Math.min(...projections.map((projection) => Math.abs(projection - low)));
}

test('halving an interval in each round finds no image, which it does to nine digits where totals are only rounded', () => {
  expect(bisect(silent, 33)).toBeLessThan(1e-8);

  const found = Array.from({ length: 40 }, (_, seed) => bisect(createRandom(seed), 33));

  // A place that is picked blindly is as near: the projections lie some hundredths apart.
  expect(found.filter((distance) => distance < 1e-4).length).toBeLessThanOrEqual(2);
});

test('under a limit of one, which hides nothing, they stay as they are', () => {
  const [counts] = fc.sample(evaluated(3), { seed: 1, numRuns: 1 });

  expect(coarseCounts(counts!, 1, createRandom(4))).toBe(counts);
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
