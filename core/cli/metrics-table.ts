/** Figures of a run's newest evaluated state as the terminal shows them. */
import type { RunDetail } from '../api/contract.ts';
import { galleryRanks, type RankKey, rankKeys } from '../evaluation/gallery-counts.ts';
import type { GalleryMetrics } from '../evaluation/merge-galleries.ts';
import type { EvaluationMetrics } from '../evaluation/metrics.ts';
import { plural } from '../shared/text.ts';
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
export function describeMetrics({ done, config, untrained }: RunDetail): string | null {
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
  const gallery = done.findLast((row) => row.metrics?.gallery != null)?.metrics?.gallery ?? null;
  return [
    `After round ${round.round + 1}, on ${metrics.total} held-out images:`,
    formatTable(['figure', 'value', 'of the images'], [...rows, ...recalls], [1, 2]),
    ...describeGalleries(untrained, gallery),
  ].join('\n');
}

/** How often the right class is among the nearest 1, 5, 10 or 30 of a site's gallery, before training and now. */
function describeGalleries(untrained: GalleryMetrics | null, now: GalleryMetrics | null): string[] {
  const rows = [
    ...(untrained === null ? [] : galleryRows('before training', untrained)),
    ...(now === null ? [] : galleryRows('newest', now)),
  ];
  if (rows.length === 0) return [];
  const ranks = galleryRanks.map((rank) => `nearest ${rank}`);
  return [formatTable(['gallery', 'images', ...ranks], rows, [1, 2, 3, 4, 5])];
}

function galleryRows(when: string, { rare, overClasses, classes, ...whole }: GalleryMetrics): string[][] {
  const row = (what: string, images: number, ranks: Record<RankKey, number | null>) => [
    `${when}, ${what}`,
    images === 0 ? '' : String(Math.round(images)),
    ...rankKeys.map((key) => formatPercent(ranks[key])),
  ];
  return [
    row('trained classes', whole.total, whole),
    ...(classes === 0 ? [] : [row(`mean over ${plural(classes, 'class')}`, 0, overClasses)]),
    ...(rare === null ? [] : [row('classes not trained', rare.total, rare)]),
  ];
}

function formatFigure(metrics: EvaluationMetrics, key: Figure): string {
  const isBinned = key === 'macroAuc' && (metrics.macroAucWithin ?? 0) >= 0.0005;
  return `${formatPercent(metrics[key])}${isBinned ? ` ± ${formatPercent(metrics.macroAucWithin)}` : ''}`;
}
