/** How well embeddings tell people apart. */

export interface Verification {
  /** Share of the pairs of one person that are more alike than all but a thousandth of the pairs of two. */
  readonly tar: number;
  /** Share of the pictures whose most similar other one is of the same person. */
  readonly nearest: number;
}

/** @param embeddings of length 1, one of each picture */
export function verification(embeddings: readonly Float32Array[], people: readonly string[]): Verification {
  const alike = similarities(embeddings);
  return { tar: tarOf(alike, people, null), nearest: nearestOf(alike, people) };
}

/**
 * How much larger the first one's `tar` is, of the same pictures, and its standard error by leaving out one person after the other
 * (the jackknife): pairs that share a person are not independent, so counts of pairs would claim far too much.
 */
export function tarDifference(
  first: readonly Float32Array[],
  second: readonly Float32Array[],
  people: readonly string[],
): { difference: number; standardError: number } {
  const [a, b] = [similarities(first), similarities(second)];
  const without = (person: string | null) => tarOf(a, people, person) - tarOf(b, people, person);
  const left = [...new Set(people)].map(without);
  const mean = left.reduce((sum, value) => sum + value, 0) / left.length;
  const spread = left.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {
    difference: without(null),
    standardError: Math.sqrt(((left.length - 1) / left.length) * spread),
  };
}

/** Cosines [pictures, pictures], row after row. */
function similarities(embeddings: readonly Float32Array[]): Float64Array {
  const count = embeddings.length;
  const alike = new Float64Array(count * count);
  for (let i = 0; i < count; i++)
    for (let j = 0; j <= i; j++) {
      const [a, b] = [embeddings[i]!, embeddings[j]!];
      let sum = 0;
      for (let k = 0; k < a.length; k++) sum += a[k]! * b[k]!;
      alike[i * count + j] = sum;
      alike[j * count + i] = sum;
    }
  return alike;
}

function tarOf(alike: Float64Array, people: readonly string[], leftOut: string | null): number {
  const count = people.length;
  const [same, other]: [number[], number[]] = [[], []];
  for (let i = 0; i < count; i++)
    for (let j = i + 1; j < count; j++)
      if (people[i] !== leftOut && people[j] !== leftOut)
        (people[i] === people[j] ? same : other).push(alike[i * count + j]!);
  const sorted = Float64Array.from(other).sort().reverse();
  const threshold = sorted[Math.floor(sorted.length / 1000)]!;
  return same.filter((value) => value > threshold).length / same.length;
}

function nearestOf(alike: Float64Array, people: readonly string[]): number {
  const count = people.length;
  let right = 0;
  for (let i = 0; i < count; i++) {
    let [best, nearest] = [Number.NEGATIVE_INFINITY, i];
    for (let j = 0; j < count; j++) {
      if (j === i || alike[i * count + j]! <= best) continue;
      [best, nearest] = [alike[i * count + j]!, j];
    }
    if (people[nearest] === people[i] && nearest !== i) right += 1;
  }
  return right / count;
}
