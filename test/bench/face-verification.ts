/** How well embeddings tell people apart. */

/**
 * @param embeddings of length 1, one of each picture
 * @returns `tar`: share of the pairs of one person that are more alike than all but a thousandth of the pairs of two; `nearest`: share of
 *   the pictures whose most similar other one is of the same person
 */
export function verification(
  embeddings: readonly Float32Array[],
  people: readonly string[],
): { tar: number; nearest: number } {
  const cosine = (a: Float32Array, b: Float32Array) =>
    a.reduce((sum, value, index) => sum + value * b[index]!, 0);
  const [same, other]: [number[], number[]] = [[], []];
  let right = 0;
  for (let i = 0; i < embeddings.length; i++) {
    let [best, person] = [-2, ''];
    for (let j = 0; j < embeddings.length; j++) {
      if (j === i) continue;
      const alike = cosine(embeddings[i]!, embeddings[j]!);
      if (alike > best) [best, person] = [alike, people[j]!];
      if (j > i) (people[i] === people[j] ? same : other).push(alike);
    }
    if (person === people[i]) right += 1;
  }
  other.sort((a, b) => b - a);
  const threshold = other[Math.floor(other.length / 1000)]!;
  return {
    tar: same.filter((alike) => alike > threshold).length / same.length,
    nearest: right / embeddings.length,
  };
}
