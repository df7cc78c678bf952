/**
 * What an evaluation counts over held-out images, and nothing but counts. A site keeps its own in full; what leaves
 * has been through `suppressSmallCells`. docs/evaluation.md says what can be learnt from it.
 */
import { z } from 'zod';
import { imageCount as count, maxCountedClasses } from './count.ts';
import { galleryCountsSchema } from './gallery-counts.ts';

export { maxCountedClasses, maxImages } from './count.ts';
/** Up to so many classes the scores of each are counted: beyond that a message would become too large. */
export const maxScoredClasses = 100;
/** `top5` is counted where there are more classes than this. */
export const topCount = 5;

/**
 * Scores are counted in bins half a unit of log-odds wide, from −8 to 8: fine where probabilities are near 0 or 1, as
 * those of most classes are.
 */
export const scoreBins = 32;
const binsPerUnit = 2;

/**
 * Of one class: images of it, those called right, and those that were taken for it, rightly or wrongly. Null where
 * it is withheld; without `total` the others are, too, and without `correct` also `predicted`.
 */
const classCountsSchema = z.strictObject({
  total: count.nullable(),
  correct: count.nullable(),
  predicted: count.nullable(),
});
export type ClassCounts = z.infer<typeof classCountsSchema>;

/** Images whose predicted class got a probability of about so many percent (their mean, rounded). */
const calibrationBlockSchema = z.strictObject({
  confidence: z.int().min(0).max(100),
  total: count,
  correct: count,
});
export type CalibrationBlock = z.infer<typeof calibrationBlockSchema>;

const scoreBin = z.int().nonnegative().lt(scoreBins);
/** [first bin, last bin, images of the class, images of other classes] with the class's score in these bins. */
const scoreBlockSchema = z.tuple([scoreBin, scoreBin, count, count]);
export type ScoreBlock = z.infer<typeof scoreBlockSchema>;

/** Parse what comes from outside with `evaluationCountsSchema`, which also refuses contradictions. */
export const evaluationCountsShape = z.strictObject({
  /** The k of `suppressSmallCells` that these counts have been through; 1: as counted. */
  smallCell: z.int().min(1).max(1_000_000),
  classes: z.int().min(2).max(1_000_000),
  /** Held-out images; 0 when there are fewer than k. */
  total: count,
  correct: count,
  /** Images whose class is among the five most probable ones; null with five classes or fewer. */
  top5: count.nullable(),
  /** By class index; null where it was withheld. */
  perClass: z.array(classCountsSchema).max(maxCountedClasses).nullable(),
  /** By confidence, ascending; null where it was withheld. */
  calibration: z.array(calibrationBlockSchema).max(101).nullable(),
  /** By class index, blocks ascending and apart, in multiples of k; null where it was withheld. */
  scores: z.array(z.array(scoreBlockSchema).max(scoreBins).nullable()).max(maxScoredClasses).nullable(),
  /** Of the nearest images in the site's gallery; absent where the run did not ask for it. */
  gallery: galleryCountsSchema.optional(),
});

export type EvaluationCounts = z.infer<typeof evaluationCountsShape>;

/** Bin of the probability that a class got: 0 for the least, `scoreBins − 1` for the greatest. */
export function scoreBinOf(logOdds: number): number {
  const bin = Math.floor(binsPerUnit * logOdds) + scoreBins / 2;
  return Math.min(scoreBins - 1, Math.max(0, bin));
}
