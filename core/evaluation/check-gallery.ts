/** Whether a gallery's counts can be those of the images that an evaluation counts. */
import type { EvaluationCounts } from './counts.ts';
import { type RankCounts, rankKeys } from './gallery-counts.ts';

/** The contradiction found, as a sentence for people, or null. */
export function checkGallery({
  smallCell,
  classes,
  total,
  perClass,
  gallery,
}: EvaluationCounts): string | null {
  if (gallery === undefined) return null;
  const { rare } = gallery;
  if (rare !== null && rare.total > 0 && rare.total < smallCell)
    return 'images of classes that were not trained are below the small-cell limit';
  const fault = checkRanks(gallery, total, smallCell) ?? (rare && checkRanks(rare, rare.total, smallCell));
  if (fault !== null) return fault;
  if (gallery.perClass === null) return null;
  if (gallery.perClass.length !== classes) return 'there are not as many rows of ranks as classes';
  const known = { rank1: 0, rank5: 0, rank10: 0, rank30: 0 };
  for (const [index, row] of gallery.perClass.entries()) {
    if (row === null) continue;
    const images = perClass?.[index]?.total ?? null;
    if (images === null) return 'a class reports ranks without images';
    const wrong = checkRanks(row, images, smallCell);
    if (wrong !== null) return wrong;
    for (const key of rankKeys) known[key] += row[key] ?? 0;
  }
  const rows = gallery.perClass;
  for (const key of rankKeys) {
    const whole = gallery[key];
    if (whole === null) {
      if (rows.some((row) => row !== null && row[key] !== null))
        return 'a class reports a rank that all images do not';
      continue;
    }
    if (known[key] > whole) return 'the classes were found more often than all images';
    if (known[key] < whole && rows.every((row) => row !== null && row[key] !== null))
      return 'the classes were found less often than all images';
  }
  return null;
}

function checkRanks(ranks: RankCounts, total: number, smallCell: number): string | null {
  let before = 0;
  for (const count of [...rankKeys.map((key) => ranks[key]), total]) {
    if (count === null) continue;
    const cell = count - before;
    if (cell < 0) return 'fewer images are found among more classes, or more than there are';
    if (cell > 0 && cell < smallCell) return 'a count of a rank is below the small-cell limit';
    before = count;
  }
  return null;
}
