/**
 * What of an evaluation's counts may leave a site: nothing between 0 and k, and nothing of which sums and differences
 * tell such a cell. docs/evaluation.md has the argument in full. In short:
 *
 * - Totals, classes and confidences are exact counts of cells that are 0 or at least k, each table a partition of the
 *   same images, and what a table leaves out is a cell like any other (see `poolSafely`). Right and wrong are released
 *   apart in tables only where the totals tell them apart.
 * - Scores of a class hang together with all of these (a probability above one half is the predicted class's), so their
 *   blocks, too, hold 0 or at least k images, and are then rounded to multiples of k: sums and differences of
 *   multiples of k are multiples of k.
 */
import { AppError } from '../shared/errors.ts';
import type { CalibrationBlock, ClassCounts, EvaluationCounts } from './counts.ts';
import { roundScores } from './round-scores.ts';
import { isSafe, nearestSafe, type Pooled, poolSafely } from './safe-cells.ts';
import { type ShownImages, suppressGallery } from './suppress-gallery.ts';

/** With 2, "fewer than two" would say "one". */
const smallestLimit = 3;

/** The k that holds where a run asks for `limit`, which hides something. */
export const leastLimit = (limit: number): number => Math.max(smallestLimit, limit);

/**
 * @param counts as counted (`smallCell` 1)
 * @param limit k, at least 1; 1 hides nothing, 2 is taken as 3
 * @throws AppError INTERNAL when the counts have been through this before
 */
export function suppressSmallCells(counts: EvaluationCounts, limit: number): EvaluationCounts {
  if (counts.smallCell !== 1) throw new AppError('INTERNAL', 'Small cells have been suppressed already.');
  if (limit === 1) return counts;
  const smallCell = leastLimit(limit);
  const { classes, total } = counts;
  const hidden = { smallCell, classes, perClass: null, calibration: null, scores: null };
  if (total < smallCell)
    return {
      ...hidden,
      total: 0,
      correct: 0,
      top5: null,
      ...galleryOf(counts, { total: 0, perClass: null, smallCell }),
    };
  const correct = nearestSafe(counts.correct, total, smallCell);
  const wrong = total - correct;
  const near = counts.top5 === null ? null : Math.min(wrong, counts.top5 - counts.correct);
  // Decided by what is published, so that nothing tells whether it was rounded.
  const splits = correct > smallCell && wrong > smallCell;
  const perClass = counts.perClass && publishClasses(counts.perClass, smallCell, splits);
  return {
    ...hidden,
    total,
    correct,
    top5: near === null ? null : correct + nearestSafe(near, wrong, smallCell),
    perClass,
    calibration: splits && counts.calibration ? mergeConfidences(counts.calibration, smallCell) : null,
    scores: counts.scores && perClass && roundScores(counts.scores, perClass, smallCell),
    ...galleryOf(counts, { total, perClass, smallCell }),
  };
}

/** Nothing where the run did not ask for a gallery. */
function galleryOf(
  { gallery, perClass }: EvaluationCounts,
  shown: Omit<ShownImages, 'totals'>,
): Pick<EvaluationCounts, 'gallery'> {
  if (gallery === undefined) return {};
  const totals = perClass?.map((row) => row.total!) ?? null;
  return { gallery: suppressGallery(gallery, { ...shown, totals }) };
}

/** Null when no class may be shown. */
function publishClasses(
  rows: readonly ClassCounts[],
  smallCell: number,
  splits: boolean,
): ClassCounts[] | null {
  const cells = rows.map((row) => ({
    total: row.total!,
    right: row.correct!,
    taken: row.predicted! - row.correct!,
  }));
  const pooled: Pooled = { smallCell, sizes: cells.map((cell) => cell.total) };
  const shown = poolSafely(
    pooled,
    [{ cells: cells.map((cell) => cell.total), atLeast: () => 0 }],
    (index) => cells[index]!.total >= smallCell,
  );
  const split = !splits
    ? new Set<number>()
    : poolSafely(
        pooled,
        [
          { cells: cells.map((cell) => cell.right), atLeast: (index) => (shown.has(index) ? 1 : 0) },
          {
            cells: cells.map((cell) => cell.total - cell.right),
            atLeast: (index) => (shown.has(index) ? 1 : 0),
          },
        ],
        (index) =>
          shown.has(index) &&
          isSafe(cells[index]!.right, smallCell) &&
          isSafe(cells[index]!.total - cells[index]!.right, smallCell),
      );
  if (shown.size === 0) return null;
  const released = releasePredictions(cells, split, smallCell);
  return cells.map(({ total, right, taken }, index) => ({
    total: shown.has(index) ? total : null,
    correct: split.has(index) ? right : null,
    predicted: released.has(index) ? right + taken : null,
  }));
}

/** Classes of which images of others that were taken for them may be released. */
function releasePredictions(
  cells: readonly { total: number; right: number; taken: number }[],
  split: ReadonlySet<number>,
  smallCell: number,
): Set<number> {
  const taken = cells.map((cell) => cell.taken);
  const released = poolSafely(
    { smallCell, sizes: cells.map((cell) => cell.total) },
    [{ cells: taken, atLeast: () => 0 }],
    (index) => split.has(index) && isSafe(taken[index]!, smallCell),
  );
  const wrong = cells.reduce((sum, cell) => sum + cell.total - cell.right, 0);
  // Wrong images that have nothing to do with a class are a difference, too.
  const isSafeWithoutClass = [...released].every((index) => {
    const { total, right } = cells[index]!;
    return isSafe(wrong - (total - right) - taken[index]!, smallCell);
  });
  return isSafeWithoutClass ? released : new Set();
}

/** From the greatest confidence down: merged until a block has 0 or at least k right and wrong images. */
function mergeConfidences(blocks: readonly CalibrationBlock[], smallCell: number): CalibrationBlock[] {
  const merged: (CalibrationBlock & { weighted: number })[] = [];
  const isWhole = ({ total, correct }: CalibrationBlock) =>
    isSafe(correct, smallCell) && isSafe(total - correct, smallCell);
  const join = (a: CalibrationBlock & { weighted: number }, b: CalibrationBlock & { weighted: number }) => ({
    confidence: 0,
    total: a.total + b.total,
    correct: a.correct + b.correct,
    weighted: a.weighted + b.weighted,
  });
  for (const block of blocks.toReversed()) {
    const next = { ...block, weighted: block.confidence * block.total };
    const last = merged.at(-1);
    if (last === undefined || isWhole(last)) merged.push(next);
    else merged[merged.length - 1] = join(last, next);
  }
  while (merged.length > 1 && !isWhole(merged.at(-1)!)) merged.push(join(merged.pop()!, merged.pop()!));
  const byConfidence = new Map<number, CalibrationBlock>();
  for (const { total, correct, weighted } of merged.toReversed()) {
    const confidence = Math.round(weighted / total);
    const same = byConfidence.get(confidence) ?? { confidence, total: 0, correct: 0 };
    byConfidence.set(confidence, { confidence, total: same.total + total, correct: same.correct + correct });
  }
  return [...byConfidence.values()];
}
