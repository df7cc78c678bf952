/** What the coordinator makes of the sites' held-out counts. */
export interface SiteEvaluation {
  siteId: string;
  correct: number;
  total: number;
}

/** Accuracy over all sites that may report, weighted by their counts; null when none may. */
export function aggregateEvaluations(results: readonly SiteEvaluation[]): {
  accuracy: number | null;
  total: number;
} {
  const correct = results.reduce((sum, result) => sum + result.correct, 0);
  const total = results.reduce((sum, result) => sum + result.total, 0);
  return { accuracy: total === 0 ? null : correct / total, total };
}
