/** The sum of several sites' counts, each with what it may show. */
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import type { Share } from './count.ts';
import type { CalibrationBlock, EvaluationCounts, ScoreBlock } from './counts.ts';
import { type FederatedGallery, mergeGalleries } from './merge-galleries.ts';

/** What the sites release of one class; a site that withholds a part is in none of that part's numbers. */
export interface FederatedClass {
  recall: Share;
  /** Of sites that release predictions, too. */
  f1: Share & { predicted: number };
}

export interface FederatedCounts {
  /** Images of all sites that may report. */
  total: number;
  top1: Share;
  top5: Share;
  /** By class index; zeros where no site may release any. */
  perClass: FederatedClass[];
  /** By confidence, ascending. */
  calibration: CalibrationBlock[];
  /** By class index, sorted by bins; blocks of different sites may overlap. Empty where no site may release any. */
  scores: ScoreBlock[][];
  /** Null where no site reports any. */
  gallery: FederatedGallery | null;
}

/**
 * The order of the sites does not matter.
 * @param classes of the run, for the case that no site tells anything
 * @throws AppError SHAPE_MISMATCH when a site counted other classes
 */
export function mergeCounts(parts: readonly EvaluationCounts[], classes: number): FederatedCounts {
  const other = parts.find((part) => part.classes !== classes);
  if (other !== undefined) {
    throw new AppError(
      'SHAPE_MISMATCH',
      `Counts of an evaluation cover ${plural(other.classes, 'class')}, but the run has ${classes}.`,
    );
  }
  const withTop5 = parts.filter((part) => part.top5 !== null);
  return {
    total: sumOf(parts, (part) => part.total),
    top1: { total: sumOf(parts, (part) => part.total), correct: sumOf(parts, (part) => part.correct) },
    top5: { total: sumOf(withTop5, (part) => part.total), correct: sumOf(withTop5, (part) => part.top5!) },
    perClass: mergeClasses(parts, classes),
    calibration: mergeCalibration(parts),
    scores: mergeScores(parts, classes),
    gallery: mergeGalleries(parts, classes),
  };
}

function sumOf<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((sum, item) => sum + of(item), 0);
}

function mergeClasses(parts: readonly EvaluationCounts[], classes: number): FederatedClass[] {
  return Array.from({ length: classes }, (_, index) => {
    const recall = { total: 0, correct: 0 };
    const f1 = { total: 0, correct: 0, predicted: 0 };
    for (const { perClass } of parts) {
      const { total, correct, predicted } = perClass?.[index] ?? {
        total: null,
        correct: null,
        predicted: null,
      };
      if (total === null || correct === null) continue;
      recall.total += total;
      recall.correct += correct;
      if (predicted === null) continue;
      f1.total += total;
      f1.correct += correct;
      f1.predicted += predicted;
    }
    return { recall, f1 };
  });
}

function mergeCalibration(parts: readonly EvaluationCounts[]): CalibrationBlock[] {
  const merged = new Map<number, CalibrationBlock>();
  for (const { confidence, total, correct } of parts.flatMap((part) => part.calibration ?? [])) {
    const sum = merged.get(confidence) ?? { confidence, total: 0, correct: 0 };
    merged.set(confidence, { confidence, total: sum.total + total, correct: sum.correct + correct });
  }
  return [...merged.values()].sort((a, b) => a.confidence - b.confidence);
}

function mergeScores(parts: readonly EvaluationCounts[], classes: number): ScoreBlock[][] {
  return Array.from({ length: classes }, (_, index) => {
    const merged = new Map<string, ScoreBlock>();
    for (const block of parts.flatMap((part) => part.scores?.[index] ?? [])) {
      const [from, to, positives, negatives] = block;
      const [, , p, n] = merged.get(`${from} ${to}`) ?? [from, to, 0, 0];
      merged.set(`${from} ${to}`, [from, to, p + positives, n + negatives]);
    }
    return [...merged.values()].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  });
}
