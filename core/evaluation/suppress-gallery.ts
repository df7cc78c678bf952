/**
 * What of a gallery's counts may leave a site. The images of a rank cut all images, or those of a class, in cells: found
 * first, among the first five, … not found. Each of them is 0 or at least k, like all cells of docs/evaluation.md.
 */
import type { ClassCounts } from './counts.ts';
import {
  type GalleryCounts,
  mapRanks,
  noRanks,
  type RankCounts,
  type RankKey,
  type RareCounts,
  rankKeys,
} from './gallery-counts.ts';
import { isSafe, nearestSafe, poolSafely } from './safe-cells.ts';

/** The same images as an evaluation counts, and what of them is shown. */
export interface ShownImages {
  total: number;
  /** As shown; null when no class is. */
  perClass: readonly ClassCounts[] | null;
  /** As counted. */
  totals: readonly number[] | null;
  smallCell: number;
}

/** @param counts as counted */
export function suppressGallery(counts: GalleryCounts, shown: ShownImages): GalleryCounts {
  const { smallCell, total } = shown;
  const whole = total === 0 ? noRanks : safeRanks(counts, total, smallCell);
  return {
    ...whole,
    perClass: counts.perClass && shown.perClass && publishRanks(counts.perClass, whole, shown),
    rare: counts.rare && suppressRare(counts.rare, smallCell),
  };
}

function suppressRare(rare: RareCounts, smallCell: number): RareCounts | null {
  return rare.total < smallCell ? null : { total: rare.total, ...safeRanks(rare, rare.total, smallCell) };
}

/** Rank after rank, the nearest number of images with which all cells are 0 or at least k. */
function safeRanks(ranks: RankCounts, total: number, smallCell: number): RankCounts {
  let found = 0;
  return mapRanks((key) => {
    const counted = ranks[key];
    if (counted === null) return null;
    const rest = total - found;
    found += nearestSafe(Math.min(rest, Math.max(0, counted - found)), rest, smallCell);
    return found;
  });
}

/** Cells between the ranks of `keys`, from found first to not found. */
function cellsOf(ranks: RankCounts, keys: readonly RankKey[], total: number): number[] {
  const bounds = [0, ...keys.map((key) => ranks[key]!), total];
  return bounds.slice(1).map((bound, index) => bound - bounds[index]!);
}

/**
 * By class only at ranks whose cells are all greater than k in the whole: decided by what is published, so that nothing
 * tells whether it was rounded.
 */
function publishRanks(
  rows: readonly (RankCounts | null)[],
  whole: RankCounts,
  { total, perClass, totals, smallCell }: ShownImages,
): (RankCounts | null)[] | null {
  const keys: RankKey[] = [];
  for (const key of rankKeys) {
    if (whole[key] !== null && cellsOf(whole, [...keys, key], total).every((cell) => cell > smallCell))
      keys.push(key);
  }
  if (keys.length === 0 || perClass === null || totals === null) return null;
  const cells = rows.map((row, index) => cellsOf(row!, keys, totals[index]!));
  const isShown = (index: number) => perClass[index]!.total !== null;
  const columns = [...keys, null].map((_, column) => ({
    cells: cells.map((row) => row[column]!),
    // A class whose images are shown and whose ranks are not has a small cell somewhere.
    atLeast: (index: number) => (isShown(index) ? 1 : 0),
  }));
  const released = poolSafely(
    { smallCell, sizes: totals },
    columns,
    (index) => isShown(index) && cells[index]!.every((cell) => isSafe(cell, smallCell)),
  );
  if (released.size === 0) return null;
  return rows.map((row, index) =>
    released.has(index) ? mapRanks((key) => (keys.includes(key) ? row![key] : null)) : null,
  );
}
