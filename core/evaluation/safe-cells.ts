/** Which cells of a table may be shown when their sum is known. */

/** 0 or at least k. */
export function isSafe(cell: number, smallCell: number): boolean {
  return cell === 0 || cell >= smallCell;
}

/** The nearest way to cut `whole` in two cells that are each 0 or at least k; `whole` must be so itself. */
export function nearestSafe(part: number, whole: number, smallCell: number): number {
  if (isSafe(part, smallCell) && isSafe(whole - part, smallCell)) return part;
  const ends = [0, smallCell, whole - smallCell, whole].filter(
    (cell) => cell >= 0 && cell <= whole && isSafe(cell, smallCell) && isSafe(whole - cell, smallCell),
  );
  return ends.reduce((best, cell) => (Math.abs(cell - part) < Math.abs(best - part) ? cell : best));
}

export interface Pooled {
  smallCell: number;
  /** By which the smallest shown cells are found. */
  sizes: readonly number[];
}

export interface Column {
  cells: readonly number[];
  /** What anybody knows a withheld cell to have at least. */
  atLeast: (index: number) => number;
}

/**
 * The sum of a column is known, so the cells that are withheld have a known sum, too: it must be 0 or at least k
 * itself, and must not be so small or so great that it says what each of them is. Otherwise the smallest of the shown
 * ones are withheld with them, all of a size together: a choice among equals would say which of them it was.
 * @param mayShow whether a cell may be shown by itself
 * @returns indices of the cells to show
 */
export function poolSafely(
  { smallCell, sizes }: Pooled,
  columns: readonly Column[],
  mayShow: (index: number) => boolean,
): Set<number> {
  const shown = new Set([...sizes.keys()].filter(mayShow));
  while (shown.size > 0 && columns.some((column) => isTold(column, shown, smallCell))) {
    const least = Math.min(...[...shown].map((index) => sizes[index]!));
    for (const index of [...shown]) if (sizes[index] === least) shown.delete(index);
  }
  return shown;
}

/** Whether the sum of the cells that are not shown would tell a small one. */
function isTold({ cells, atLeast }: Column, shown: ReadonlySet<number>, smallCell: number): boolean {
  const hidden = [...cells.keys()].filter((index) => !shown.has(index));
  if (hidden.length === 0) return false;
  const sum = hidden.reduce((known, index) => known + cells[index]!, 0);
  const least = hidden.reduce((known, index) => known + atLeast(index), 0);
  return !isSafe(sum, smallCell) || sum === hidden.length * (smallCell - 1) || (sum > 0 && sum === least);
}
