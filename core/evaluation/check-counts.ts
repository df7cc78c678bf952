/** Whether counts can be those of one and the same set of images, as far as rounding lets tell. */
import { checkGallery } from './check-gallery.ts';
import {
  type ClassCounts,
  type EvaluationCounts,
  evaluationCountsShape,
  type ScoreBlock,
  topCount,
} from './counts.ts';

/** Counts from outside; those that contradict each other are refused. */
export const evaluationCountsSchema = evaluationCountsShape.superRefine((counts, context) => {
  const fault = checkCounts(counts);
  if (fault !== null) context.addIssue({ code: 'custom', message: fault });
});

/** The contradiction found, as a sentence for people, or null. */
function checkCounts(counts: EvaluationCounts): string | null {
  return (
    checkTotals(counts) ??
    checkClasses(counts) ??
    checkCalibration(counts) ??
    checkScores(counts) ??
    checkGallery(counts)
  );
}

const isSmall = (cell: number, smallCell: number) => cell > 0 && cell < smallCell;

/** By how much a number that was rounded to a multiple of k may be off. */
const slackOf = (smallCell: number) => Math.floor(smallCell / 2);

function checkTotals({ smallCell, classes, total, correct, top5 }: EvaluationCounts): string | null {
  if (correct > total) return 'more images are right than there are';
  if (top5 !== null && (top5 < correct || top5 > total))
    return 'top-5 counts do not lie between the right answers and all images';
  if (top5 !== null && classes <= topCount) return 'a top-5 count means nothing with five classes or fewer';
  const cells = [total, correct, total - correct, ...(top5 === null ? [] : [top5 - correct, total - top5])];
  return cells.some((cell) => isSmall(cell, smallCell))
    ? 'a count is below the small-cell limit that it names'
    : null;
}

function checkClasses({ smallCell, classes, total, correct, perClass }: EvaluationCounts): string | null {
  if (perClass === null) return null;
  if (perClass.length !== classes) return 'there are not as many rows as classes';
  for (const row of perClass) {
    if ((row.total === null && row.correct !== null) || (row.correct === null && row.predicted !== null))
      return 'a class reports right answers without images, or predictions without right answers';
    const cells = [row.total, row.correct, less(row.total, row.correct), less(row.predicted, row.correct)];
    if (cells.some((cell) => cell !== null && cell < 0))
      return 'a class has more right answers than images or predictions';
    if (cells.some((cell) => cell !== null && isSmall(cell, smallCell)))
      return 'a count of a class is below the small-cell limit';
  }
  return (
    checkColumn(perClass, 'total', total) ??
    checkColumn(perClass, 'correct', correct) ??
    checkColumn(perClass, 'predicted', total)
  );
}

function less(whole: number | null, part: number | null): number | null {
  return whole === null || part === null ? null : whole - part;
}

function checkColumn(rows: readonly ClassCounts[], column: keyof ClassCounts, whole: number): string | null {
  const sum = rows.reduce((known, row) => known + (row[column] ?? 0), 0);
  if (sum > whole) return 'the classes have more images than there are';
  const isComplete = rows.every((row) => row[column] !== null);
  return isComplete && sum < whole ? 'the classes have fewer images than there are' : null;
}

function checkCalibration({ smallCell, total, correct, calibration }: EvaluationCounts): string | null {
  if (calibration === null) return null;
  if (calibration.some((block, index) => block.confidence <= (calibration[index - 1]?.confidence ?? -1)))
    return 'confidences do not ascend';
  if (calibration.some((block) => block.correct > block.total || block.total === 0))
    return 'a confidence has more right answers than images';
  if (
    calibration.some((block) =>
      [block.correct, block.total - block.correct].some((n) => isSmall(n, smallCell)),
    )
  )
    return 'a count of a confidence is below the small-cell limit';
  const images = calibration.reduce((sum, block) => sum + block.total, 0);
  const right = calibration.reduce((sum, block) => sum + block.correct, 0);
  return images === total && right === correct ? null : 'confidences do not add up to all images';
}

function checkScores(counts: EvaluationCounts): string | null {
  const { smallCell, classes, total, perClass, scores } = counts;
  if (scores === null) return null;
  if (scores.length !== classes) return 'there are not as many rows of scores as classes';
  for (const [index, blocks] of scores.entries()) {
    if (blocks === null) continue;
    const fault = checkBlocks(blocks, smallCell);
    if (fault !== null) return fault;
    const slack = blocks.length * slackOf(smallCell);
    const positives = blocks.reduce((sum, block) => sum + block[2], 0);
    const negatives = blocks.reduce((sum, block) => sum + block[3], 0);
    if (Math.abs(positives + negatives - total) > 2 * slack) return 'scores do not add up to all images';
    const row = perClass?.[index];
    if (row?.total != null && Math.abs(positives - row.total) > slack)
      return 'scores do not add up to the images of their class';
  }
  return null;
}

function checkBlocks(blocks: readonly ScoreBlock[], smallCell: number): string | null {
  let end = -1;
  for (const [from, to, positives, negatives] of blocks) {
    if (from <= end || to < from) return 'score bins do not ascend';
    if (!areMultiples(smallCell, positives, negatives))
      return 'a count of scores is no multiple of the small-cell limit';
    end = to;
  }
  return null;
}

function areMultiples(smallCell: number, ...values: number[]): boolean {
  return values.every((value) => value % smallCell === 0);
}
