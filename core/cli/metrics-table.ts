/** Figures of a run's newest evaluated state as the terminal shows them. */
import type { RunDetail } from '../api/contract.ts';
import type { EvaluationMetrics } from '../evaluation/metrics.ts';
import { formatPercent, formatTable } from './format.ts';

type Figure = Exclude<keyof EvaluationMetrics['coverage'], 'perClassRecall'>;
const figures: readonly (readonly [Figure, string])[] = [
  ['accuracy', 'accuracy'],
  ['top5', 'top-5 accuracy'],
  ['macroF1', 'macro-F1'],
  ['macroAuc', 'macro AUC'],
  ['calibrationError', 'calibration error'],
];

/** Null before the first evaluation. What no site may tell is left out; what it rests on stands beside the rest. */
export function describeMetrics({ done, config }: RunDetail): string | null {
  const round = done.findLast((row) => row.metrics !== null && row.metrics.total > 0);
  if (round?.metrics == null) return null;
  const { metrics } = round;
  const rows = figures
    .filter(([key]) => metrics[key] !== null)
    .map(([key, name]) => [name, formatFigure(metrics, key), formatPercent(metrics.coverage[key])]);
  const recalls = config.classes
    .map((name, index) => [name, metrics.perClassRecall[index] ?? null] as const)
    .filter(([, recall]) => recall !== null)
    .map(([name, recall]) => [`recall of ${name}`, formatPercent(recall), '']);
  return [
    `After round ${round.round + 1}, on ${metrics.total} held-out images:`,
    formatTable(['figure', 'value', 'of the images'], [...rows, ...recalls], [1, 2]),
  ].join('\n');
}

function formatFigure(metrics: EvaluationMetrics, key: Figure): string {
  const isBinned = key === 'macroAuc' && (metrics.macroAucWithin ?? 0) >= 0.0005;
  return `${formatPercent(metrics[key])}${isBinned ? ` ± ${formatPercent(metrics.macroAucWithin)}` : ''}`;
}
