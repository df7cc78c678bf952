/** Scores of classes as they may leave a site. */
import { type ClassCounts, type ScoreBlock, scoreBins } from './counts.ts';
import { isSafe } from './safe-cells.ts';

/** Null for a class of which nothing is shown, or whose images cannot be told from others. */
export function roundScores(
  rows: readonly (readonly ScoreBlock[] | null)[],
  classes: readonly ClassCounts[],
  smallCell: number,
): (ScoreBlock[] | null)[] | null {
  const rounded = rows.map((row, index) =>
    row === null || classes[index]!.total === null ? null : roundBlocks(row, smallCell),
  );
  return rounded.every((row) => row === null) ? null : rounded;
}

/** From the greatest scores down: bins are merged until a block has 0 or at least k images on either side. */
function roundBlocks(bins: readonly ScoreBlock[], smallCell: number): ScoreBlock[] | null {
  const isWhole = ([, , positives, negatives]: ScoreBlock) =>
    isSafe(positives, smallCell) && isSafe(negatives, smallCell);
  const blocks: ScoreBlock[] = [];
  let open: ScoreBlock = [scoreBins, scoreBins - 1, 0, 0];
  for (const [bin, , positives, negatives] of bins.toReversed()) {
    open = [bin, open[1], open[2] + positives, open[3] + negatives];
    if (!isWhole(open)) continue;
    blocks.push(open);
    open = [bin, bin - 1, 0, 0];
  }
  // What is left at the low end joins the blocks above it until it is safe, too.
  while (open[2] + open[3] > 0 && blocks.length > 0) {
    const above = blocks.pop()!;
    open = [open[0], above[1], open[2] + above[2], open[3] + above[3]];
    if (!isWhole(open)) continue;
    blocks.push(open);
    open = [0, 0, 0, 0];
  }
  if (blocks.length < 2 || open[2] + open[3] > 0) return null;
  const toMultiple = (cell: number) => Math.round(cell / smallCell) * smallCell;
  return blocks.toReversed().map(([from, to, p, n]) => [from, to, toMultiple(p), toMultiple(n)]);
}
