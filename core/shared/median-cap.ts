/** Bounds what a single claim can weigh by what most of the others claim. */

/**
 * No value above `cap` times the median of those above zero: with fewer than half of them hostile, the bound is one
 * that an honest value sets. Of an even number the lower of the two middle values is the median.
 * @param cap null: every value stays as it is
 */
export function cappedByMedian(values: readonly number[], cap: number | null): number[] {
  const sorted = values.filter((value) => value > 0).sort((x, y) => x - y);
  const median = sorted[Math.floor((sorted.length - 1) / 2)];
  if (cap === null || median === undefined) return [...values];
  return values.map((value) => Math.min(value, cap * median));
}
