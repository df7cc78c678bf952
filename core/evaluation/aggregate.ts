/** What the coordinator makes of the sites' held-out counts. */
import { type EvaluationCounts, evaluationCountsShape } from './counts.ts';
import { mergeCounts } from './merge-counts.ts';
import { type EvaluationMetrics, metricsOf } from './metrics.ts';

/** One site's report on one state, as the coordinator's store has it. */
export interface SiteEvaluation {
  siteId: string;
  correct: number;
  total: number;
  /** `EvaluationCounts`; null from a site that released right answers and images only. */
  counts: unknown;
}

/**
 * Over all sites that may report, each image counting the same.
 * @param classes of the run
 */
export function aggregateEvaluations(results: readonly SiteEvaluation[], classes: number): EvaluationMetrics {
  const parts = results.map(({ correct, total, counts }): EvaluationCounts => {
    if (counts !== null) return evaluationCountsShape.parse(counts);
    const withheld = { top5: null, perClass: null, calibration: null, scores: null };
    return { smallCell: 1, classes, total, correct, ...withheld };
  });
  return metricsOf(mergeCounts(parts, classes));
}
