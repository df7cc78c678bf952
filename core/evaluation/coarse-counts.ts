/**
 * What a site answers while a run goes on. Exact counts obey the small-cell rule one by one, but the coordinator chooses
 * the states: of two answers in a row the difference could tell about a single image, and rounding alone only moves that:
 * a threshold that is halved in each round ends at the very image at which the rounded total jumps. So until the last state
 * of a run, which is evaluated once, right answers are counted with noise, rounded to multiples of k, and everything
 * finer waits for the end. docs/evaluation.md.
 */
import type { Random } from '../shared/random.ts';
import type { EvaluationCounts } from './counts.ts';
import { mapRanks } from './gallery-counts.ts';
import { leastLimit } from './suppress-small-cells.ts';

/** Standard normal numbers; at a site from the operating system's cryptographic generator. */
type Noise = Pick<Random, 'normal'>;

/** Laplace noise of this scale: the difference of two exponential numbers, each half of a squared normal pair. */
function laplace(scale: number, noise: Noise): number {
  const exponential = () => (noise.normal() ** 2 + noise.normal() ** 2) / 2;
  return scale * (exponential() - exponential());
}

/**
 * Each answer is 1/k-differentially private for a held-out image that is right or wrong, and again for one in the top five:
 * one image changes a count by one, and the noise has the scale k (Dwork et al. 2006). And again for one whose nearest neighbour in
 * the gallery is right or wrong; an image of the gallery can be the nearest of several.
 * @param counts as counted (`smallCell` 1)
 * @param limit k; 1 hides nothing
 */
export function coarseCounts(counts: EvaluationCounts, limit: number, noise: Noise): EvaluationCounts {
  if (limit === 1) return counts;
  const smallCell = leastLimit(limit);
  const { classes } = counts;
  const toMultiple = (count: number) => Math.round(count / smallCell) * smallCell;
  // Which images are held out does not depend on the state: no noise.
  const total = counts.total < smallCell ? 0 : toMultiple(counts.total);
  const hidden = { smallCell, classes, total, perClass: null, calibration: null, scores: null };
  const noisy = (count: number, least: number, most = total) =>
    Math.max(least, Math.min(most, toMultiple(count + laplace(smallCell, noise))));
  const correct = noisy(counts.correct, 0);
  const top5 = counts.top5 === null || total === 0 ? null : noisy(counts.top5, correct);
  return { ...hidden, correct, top5, ...coarseGallery(counts, total, smallCell, noisy) };
}

/** The nearest neighbour alone: further ranks would each be one more answer about the same images. */
function coarseGallery(
  { gallery }: EvaluationCounts,
  total: number,
  smallCell: number,
  noisy: (count: number, least: number, most?: number) => number,
): Pick<EvaluationCounts, 'gallery'> {
  if (gallery === undefined) return {};
  const { rare } = gallery;
  const rareTotal =
    rare === null || rare.total < smallCell ? 0 : Math.round(rare.total / smallCell) * smallCell;
  const first = (rank1: number | null, most: number) =>
    mapRanks((key) => (key !== 'rank1' || rank1 === null || most === 0 ? null : noisy(rank1, 0, most)));
  return {
    gallery: {
      ...first(gallery.rank1, total),
      perClass: null,
      rare: rare === null || rareTotal === 0 ? null : { total: rareTotal, ...first(rare.rank1, rareTotal) },
    },
  };
}
