/**
 * What a site answers while a run goes on. Exact counts obey the small-cell rule one by one, but the coordinator chooses
 * the states: of two answers in a row the difference could tell about a single image. So until the last state of a run,
 * which is evaluated once, totals are multiples of k, and everything finer waits for the end. docs/evaluation.md.
 */
import type { EvaluationCounts } from './counts.ts';

/** @param counts that have been through `suppressSmallCells` */
export function coarseCounts(counts: EvaluationCounts): EvaluationCounts {
  const { smallCell, total, correct, top5 } = counts;
  if (smallCell === 1) return counts;
  const toMultiple = (count: number) => Math.round(count / smallCell) * smallCell;
  return {
    ...counts,
    total: toMultiple(total),
    correct: toMultiple(correct),
    top5: top5 === null ? null : toMultiple(top5),
    ...{ perClass: null, calibration: null, scores: null },
  };
}
