/** Figures of one state over the held-out images of all sites, computed from counts alone. */
import { z } from 'zod';
import type { ScoreBlock } from './counts.ts';
import type { FederatedCounts } from './merge-counts.ts';
import { galleryMetricsOf, galleryMetricsSchema } from './merge-galleries.ts';

const share = z.number().min(0).max(1);

/** Which share of the images each figure rests on; 0 where it is null. */
const coverageSchema = z.object({
  accuracy: share,
  top5: share,
  perClassRecall: share,
  macroF1: share,
  macroAuc: share,
  calibrationError: share,
});

export const evaluationMetricsSchema = z.object({
  /** Images of the sites that may report; see `coverage` for how many of them a figure rests on. */
  total: z.int().nonnegative(),
  /** Share of the images whose most probable class is right. */
  accuracy: share.nullable(),
  top5: share.nullable(),
  macroF1: share.nullable(),
  macroAuc: share.nullable(),
  /** How far `macroAuc` may be from the one without bins, up or down; null when that is. */
  macroAucWithin: share.nullable(),
  /** Expected calibration error over ten bins of confidence. */
  calibrationError: share.nullable(),
  /** By class index. */
  perClassRecall: z.array(share.nullable()),
  coverage: coverageSchema,
  /** Of the sites' galleries; null where none was asked for. */
  gallery: galleryMetricsSchema.nullable().default(null),
});
export type EvaluationMetrics = z.infer<typeof evaluationMetricsSchema>;

/** Whole bins of confidence over which the calibration error is taken. */
const calibrationBins = 10;

/** Formulas: docs/evaluation.md. A class of which nothing may be shown is left out of the means over classes. */
export function metricsOf(counts: FederatedCounts): EvaluationMetrics {
  const { total, top1, top5, perClass } = counts;
  const shown = perClass.map((row) => row.f1).filter((row) => row.total > 0);
  const auc = macroAuc(counts.scores);
  const calibrated = sumOf(counts.calibration.map((block) => block.total));
  return {
    total,
    accuracy: ratio(top1.correct, top1.total),
    top5: ratio(top5.correct, top5.total),
    macroF1: meanOf(shown.map((row) => ratio(2 * row.correct, row.total + row.predicted)!)),
    macroAuc: auc?.value ?? null,
    macroAucWithin: auc?.within ?? null,
    calibrationError: calibrationError(counts.calibration),
    perClassRecall: perClass.map((row) => ratio(row.recall.correct, row.recall.total)),
    coverage: {
      accuracy: coverage(top1.total, total),
      top5: coverage(top5.total, total),
      perClassRecall: coverage(sumOf(perClass.map((row) => row.recall.total)), total),
      macroF1: coverage(sumOf(shown.map((row) => row.total)), total),
      macroAuc: coverage(auc?.positives ?? 0, total),
      calibrationError: coverage(calibrated, total),
    },
    gallery: counts.gallery && galleryMetricsOf(counts.gallery),
  };
}

/** Σ_b |right_b − Σ confidence| / Σ_b n_b, bins (0, 10 %], (10 %, 20 %] … (Guo et al. 2017, arXiv 1706.04599). */
function calibrationError(blocks: FederatedCounts['calibration']): number | null {
  const excess = new Array<number>(calibrationBins).fill(0);
  for (const { confidence, total, correct } of blocks) {
    const bin = Math.max(0, Math.ceil((confidence * calibrationBins) / 100) - 1);
    excess[bin]! += correct - (total * confidence) / 100;
  }
  return ratio(sumOf(excess.map(Math.abs)), sumOf(blocks.map((block) => block.total)));
}

interface Auc {
  value: number;
  within: number;
  /** Images of the classes behind it. */
  positives: number;
}

/** Mean over the classes that have images on both sides; null without any. */
function macroAuc(scores: FederatedCounts['scores']): Auc | null {
  const known = scores.map(oneVersusRest).filter((auc) => auc !== null);
  const value = meanOf(known.map((auc) => auc.value));
  const within = meanOf(known.map((auc) => auc.within));
  if (value === null || within === null) return null;
  return { value, within, positives: sumOf(known.map((auc) => auc.positives)) };
}

/**
 * Share of the pairs of one image of the class and one of others in which the first has the greater score. Pairs
 * whose blocks overlap count half: each may be wrong by one half at most, which is what `within` sums up.
 */
function oneVersusRest(blocks: readonly ScoreBlock[]): Auc | null {
  const positives = sumOf(blocks.map((block) => block[2]));
  const pairs = positives * sumOf(blocks.map((block) => block[3]));
  if (pairs === 0) return null;
  let above = 0;
  let undecided = 0;
  for (const [from, to, count] of blocks) {
    if (count === 0) continue;
    for (const [otherFrom, otherTo, , others] of blocks) {
      if (from > otherTo) above += count * others;
      else if (to >= otherFrom) undecided += count * others;
    }
  }
  return { value: ratio(above + undecided / 2, pairs)!, within: ratio(undecided / 2, pairs)!, positives };
}

/** Counts that were scaled are no whole numbers: their sums may be a last digit off. */
function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : Math.min(1, part / whole);
}

/** Rounded counts may add up to a little more than all images. */
function coverage(part: number, whole: number): number {
  return whole === 0 ? 0 : Math.min(1, part / whole);
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function meanOf(values: readonly number[]): number | null {
  return values.length === 0 ? null : sumOf(values) / values.length;
}
