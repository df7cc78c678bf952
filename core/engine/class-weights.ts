/** How the classes of a site's images count in its loss. */

/** An image of the rarest class counts at most this many times as much as one of the most common. */
const largestRatio = 10;
/** Images that a class without any counts for: keeps the logarithm of its share finite. */
const absentClassCount = 0.1;

/**
 * Weight of an image by its class. `balanced` is the inverse of the class's count, capped, and scaled so that
 * the mean over all images is 1; a class without images has 0.
 * @param labels class indices of all images
 */
export function classWeights(
  labels: readonly number[],
  classes: number,
  kind: 'none' | 'balanced',
): Float64Array {
  if (kind === 'none') return new Float64Array(classes).fill(1);
  const counts = new Float64Array(classes);
  for (const label of labels) counts[label]! += 1;
  const mostCommon = Math.max(...counts);
  const ratios = counts.map((count) => (count === 0 ? 0 : Math.min(largestRatio, mostCommon / count)));
  const sum = labels.reduce((total, label) => total + ratios[label]!, 0);
  return ratios.map((ratio) => (ratio * labels.length) / sum);
}

/** Share of each class among the images, positive and of sum 1; uniform without logit adjustment. */
export function classPrior(labels: readonly number[], classes: number, adjust: boolean): Float32Array {
  const counts = new Float32Array(classes).fill(adjust ? absentClassCount : 1);
  if (adjust) for (const label of labels) counts[label]! += 1;
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.map((count) => count / total);
}
