/** What the coordinator makes of the sites' held-out counts. */
import { cappedByMedian } from '../shared/median-cap.ts';
import { type EvaluationCounts, evaluationCountsShape } from './counts.ts';
import { mergeCounts } from './merge-counts.ts';
import { type EvaluationMetrics, metricsOf } from './metrics.ts';
import { scaleCounts } from './scale-counts.ts';

/** One site's report on one state, as the coordinator's store has it. */
export interface SiteEvaluation {
  siteId: string;
  correct: number;
  total: number;
  /** `EvaluationCounts`; null from a site that released right answers and images only. */
  counts: unknown;
}

/** Null for what are no counts of this run: one report must not take the figures of all away. */
function countsOf({ correct, total, counts }: SiteEvaluation, classes: number): EvaluationCounts | null {
  if (counts !== null) {
    const parsed = evaluationCountsShape.safeParse(counts);
    return parsed.success && parsed.data.classes === classes ? parsed.data : null;
  }
  const withheld = { top5: null, perClass: null, calibration: null, scores: null };
  return { smallCell: 1, classes, total, correct, ...withheld };
}

/**
 * Over all sites that may report, each image counting the same, up to a number of images that no site exceeds: how many
 * it has is a site's own claim, and must not decide the figures of all.
 * @param cap that number, as a multiple of the median of the sites that report; null: no limit
 */
export function aggregateEvaluations(
  results: readonly SiteEvaluation[],
  { classes, cap }: { classes: number; cap: number | null },
): EvaluationMetrics {
  const parts = results.flatMap((result) => countsOf(result, classes) ?? []);
  const totals = parts.map(({ total }) => total);
  const counted = cappedByMedian(totals, cap);
  const scaled = parts.map((part, index) => {
    const [whole, most] = [totals[index]!, counted[index]!];
    return most < whole ? scaleCounts(part, most / whole) : part;
  });
  const total = totals.reduce((sum, images) => sum + images, 0);
  return { ...metricsOf(mergeCounts(scaled, classes)), total };
}
