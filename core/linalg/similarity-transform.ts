/**
 * Similarity transforms of the plane: turning, one factor for both axes, moving; no mirroring. Own code because it is four
 * numbers in closed form, and what a general library gives would be a matrix class around them.
 */

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** x' = a·x − b·y + moveX, y' = b·x + a·y + moveY; the factor is √(a² + b²), the turn atan2(b, a). */
export interface Similarity {
  readonly a: number;
  readonly b: number;
  readonly moveX: number;
  readonly moveY: number;
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * The similarity that takes `from` to `to` with the smallest sum of squared distances. Source: Umeyama, Least-squares estimation of
 * transformation parameters between two point patterns, IEEE PAMI 13 (1991). In the plane its singular value decomposition comes
 * down to two sums, as of complex numbers; the best transform that mirrors is not looked for.
 * @param from at least two points that are not all the same
 * @throws RangeError for anything else
 */
export function fitSimilarity(from: readonly Point[], to: readonly Point[]): Similarity {
  if (from.length !== to.length || from.length < 2)
    throw new RangeError('expected as many points, at least two');
  const [fromX, fromY] = [mean(from.map(({ x }) => x)), mean(from.map(({ y }) => y))];
  const [toX, toY] = [mean(to.map(({ x }) => x)), mean(to.map(({ y }) => y))];
  let [dot, cross, spread] = [0, 0, 0];
  for (const [index, { x, y }] of from.entries()) {
    const [px, py] = [x - fromX, y - fromY];
    const [qx, qy] = [to[index]!.x - toX, to[index]!.y - toY];
    dot += px * qx + py * qy;
    cross += px * qy - py * qx;
    spread += px * px + py * py;
  }
  if (!(spread > 0)) throw new RangeError('expected points that differ');
  const [a, b] = [dot / spread, cross / spread];
  return { a, b, moveX: toX - a * fromX + b * fromY, moveY: toY - b * fromX - a * fromY };
}

export const applySimilarity = ({ a, b, moveX, moveY }: Similarity, { x, y }: Point): Point => ({
  x: a * x - b * y + moveX,
  y: b * x + a * y + moveY,
});

/** @param similarity with a factor above 0 */
export function invertSimilarity({ a, b, moveX, moveY }: Similarity): Similarity {
  const square = a * a + b * b;
  const [c, d] = [a / square, -b / square];
  return { a: c, b: d, moveX: -(c * moveX - d * moveY), moveY: -(d * moveX + c * moveY) };
}

/** How much longer distances become. */
export const factorOf = ({ a, b }: Similarity): number => Math.hypot(a, b);
