/**
 * What of an evaluation's counts may leave a site. Everything that leaves is 0 or at least k, and so is everything
 * that sums and differences of it can tell:
 *
 * - The three cells of the totals (right, right among five, neither) are a partition of all pictures. Each is 0 or at
 *   least k; a smaller one is moved to the nearer of 0 and k at its neighbour's cost.
 * - All other tables are rounded to multiples of k, cell by cell. Sums and differences of multiples of k are
 *   multiples of k, within a table, across tables and from round to round.
 * - Rounding alone would not hide cells that are small anyway: where many are rounded to 0, a known total may give them
 *   away. So rows of few pictures are withheld, bins of few are merged with their neighbours before they are rounded,
 *   and a table in which bounds pin a small cell down all the same is withheld as a whole.
 */
import { AppError } from '../../shared/errors.ts';
import {
  type CalibrationBlock,
  type ClassCounts,
  type EvaluationCounts,
  type ScoreBlock,
  scoreBins,
} from './counts.ts';

/**
 * @param counts as counted (`smallCell` 1)
 * @param smallCell k, at least 1; 1 hides nothing
 * @throws AppError INTERNAL when the counts have been through this before
 */
export function suppressSmallCells(counts: EvaluationCounts, smallCell: number): EvaluationCounts {
  if (counts.smallCell !== 1) throw new AppError('INTERNAL', 'Small cells have been suppressed already.');
  if (smallCell === 1) return counts;
  const { classes, total } = counts;
  const hidden = { smallCell, classes, perClass: null, calibration: null, scores: null };
  if (total < smallCell) return { ...hidden, total: 0, correct: 0, top5: null };
  const correct = nearestSafe(counts.correct, total, smallCell);
  const wrong = total - correct;
  const near = counts.top5 === null ? null : Math.min(wrong, counts.top5 - counts.correct);
  return {
    ...hidden,
    total,
    correct,
    top5: near === null ? null : correct + nearestSafe(near, wrong, smallCell),
    perClass: counts.perClass && roundClasses(counts.perClass, { total, correct, smallCell }),
    calibration: counts.calibration && roundCalibration(counts.calibration, { total, correct, smallCell }),
    scores: counts.scores && roundScores(counts.scores, smallCell),
  };
}

/** The nearest way to cut `whole` in two cells that are each 0 or at least k; `whole` must be so itself. */
function nearestSafe(part: number, whole: number, smallCell: number): number {
  const isSafe = (cell: number) => cell === 0 || cell >= smallCell;
  if (isSafe(part) && isSafe(whole - part)) return part;
  const ends = [0, smallCell, whole - smallCell, whole].filter(
    (cell) => cell >= 0 && cell <= whole && isSafe(cell) && isSafe(whole - cell),
  );
  return ends.reduce((best, cell) => (Math.abs(cell - part) < Math.abs(best - part) ? cell : best));
}

function toMultiple(cell: number, smallCell: number): number {
  return Math.round(cell / smallCell) * smallCell;
}

interface Whole {
  total: number;
  /** As published. */
  correct: number;
  smallCell: number;
}

function roundClasses(rows: readonly ClassCounts[], whole: Whole): ClassCounts[] | null {
  const { smallCell } = whole;
  return rows.map(({ total, correct, predicted }) =>
    total < smallCell
      ? { total: 0, correct: 0, predicted: toMultiple(predicted - correct, smallCell) }
      : {
          total: toMultiple(total, smallCell),
          correct: toMultiple(correct, smallCell),
          predicted: toMultiple(predicted, smallCell),
        },
  );
}

function roundCalibration(blocks: readonly CalibrationBlock[], { smallCell }: Whole): CalibrationBlock[] {
  const merged: (CalibrationBlock & { weighted: number })[] = [];
  for (const { confidence, total, correct } of blocks) {
    const last = merged.at(-1);
    const weighted = confidence * total;
    if (last === undefined || last.total >= smallCell) {
      merged.push({ confidence, total, correct, weighted });
    } else {
      last.total += total;
      last.correct += correct;
      last.weighted += weighted;
    }
  }
  const tail = merged.at(-1);
  const before = merged.at(-2);
  if (tail !== undefined && before !== undefined && tail.total < smallCell) {
    before.total += tail.total;
    before.correct += tail.correct;
    before.weighted += tail.weighted;
    merged.pop();
  }
  const rounded = new Map<number, CalibrationBlock>();
  for (const { total, correct, weighted } of merged) {
    const confidence = Math.round(weighted / total);
    const same = rounded.get(confidence) ?? { confidence, total: 0, correct: 0 };
    rounded.set(confidence, { confidence, total: same.total + total, correct: same.correct + correct });
  }
  return [...rounded.values()].map(({ confidence, total, correct }) => ({
    confidence,
    total: toMultiple(total, smallCell),
    correct: toMultiple(correct, smallCell),
  }));
}

function roundScores(
  rows: readonly (readonly ScoreBlock[] | null)[],
  smallCell: number,
): (ScoreBlock[] | null)[] | null {
  const rounded = rows.map((row) => (row === null ? null : roundBlocks(row, smallCell)));
  return rounded.every((row) => row === null) ? null : rounded;
}

/** From the greatest scores down: bins are merged until a block has 0 or at least k pictures on either side. */
function roundBlocks(bins: readonly ScoreBlock[], smallCell: number): ScoreBlock[] | null {
  const isSafe = ([, , positives, negatives]: ScoreBlock) =>
    [positives, negatives].every((cell) => cell === 0 || cell >= smallCell);
  const positives = new Array<number>(scoreBins).fill(0);
  const negatives = new Array<number>(scoreBins).fill(0);
  for (const [bin, , p, n] of bins) {
    positives[bin]! += p;
    negatives[bin]! += n;
  }
  const whole: ScoreBlock = [0, scoreBins - 1, sumOf(positives), sumOf(negatives)];
  if (!isSafe(whole) || whole[2] === 0 || whole[3] === 0) return null;
  const blocks: ScoreBlock[] = [];
  let open: ScoreBlock | null = null;
  for (let bin = scoreBins - 1; bin >= 0; bin--) {
    const above: ScoreBlock = open ?? [bin, bin, 0, 0];
    const block: ScoreBlock = [bin, above[1], above[2] + positives[bin]!, above[3] + negatives[bin]!];
    const closes = block[2] + block[3] > 0 && isSafe(block);
    if (closes) blocks.push(block);
    open = closes ? null : block;
  }
  // What is left at the low end joins the blocks above it until it is safe, too.
  while (open !== null) {
    const above = blocks.pop();
    if (above !== undefined) open = [open[0], above[1], open[2] + above[2], open[3] + above[3]];
    if (!isSafe(open)) continue;
    blocks.push(open);
    open = null;
  }
  return blocks
    .reverse()
    .map(([from, to, p, n]) => [from, to, toMultiple(p, smallCell), toMultiple(n, smallCell)]);
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
