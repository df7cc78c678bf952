/** Sets of instants: disjoint half-open intervals [start, end) in order, in ms since 1970; ends may be infinite. */
export interface Interval {
  readonly start: number;
  readonly end: number;
}
export type Instants = readonly Interval[];

export const always: Instants = [{ start: -Infinity, end: Infinity }];
export const never: Instants = [];

/** One interval, or nothing when it ends before it begins. */
export const between = (start: number, end: number): Instants => (start < end ? [{ start, end }] : never);

/** In any of them. */
export function union(...sets: readonly Instants[]): Instants {
  const sorted = sets.flat().sort((a, b) => a.start - b.start);
  const joined: { start: number; end: number }[] = [];
  for (const { start, end } of sorted) {
    const last = joined.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else joined.push({ start, end });
  }
  return joined;
}

/** In both. */
export function intersection(a: Instants, b: Instants): Instants {
  return union(
    a.flatMap((x) => b.flatMap((y) => between(Math.max(x.start, y.start), Math.min(x.end, y.end)))),
  );
}

/** In the first and not in the second. */
export function difference(a: Instants, b: Instants): Instants {
  let left: Instants = a;
  for (const hole of b) {
    left = left.flatMap(({ start, end }) => [
      ...between(start, Math.min(end, hole.start)),
      ...between(Math.max(start, hole.end), end),
    ]);
  }
  return left;
}

export const contains = (set: Instants, instant: number): boolean =>
  set.some(({ start, end }) => start <= instant && instant < end);

/** What of it lies at or after an instant. */
export const from = (set: Instants, instant: number): Instants =>
  intersection(set, between(instant, Infinity));
