/** Boxes that may hold a face: corrected by what a network says, made square, and thinned out. */

/** Outer edges in pixels of the photograph, and the network's confidence in [0, 1]. */
export interface Candidate {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
  readonly score: number;
}

export const widthOf = ({ left, right }: Candidate): number => right - left;
export const heightOf = ({ top, bottom }: Candidate): number => bottom - top;

/** Softmax of two logits: the share of the second. */
export const confidence = (noFace: number, face: number): number => 1 / (1 + Math.exp(noFace - face));

/** @param offsets of left, top, right and bottom, in sides of the box */
export function corrected<T extends Candidate>(candidate: T, offsets: ArrayLike<number>, at = 0): T {
  const [width, height] = [widthOf(candidate), heightOf(candidate)];
  return {
    ...candidate,
    left: candidate.left + offsets[at]! * width,
    top: candidate.top + offsets[at + 1]! * height,
    right: candidate.right + offsets[at + 2]! * width,
    bottom: candidate.bottom + offsets[at + 3]! * height,
  };
}

/** The square with the same centre, of the longer side. */
export function squared(candidate: Candidate): Candidate {
  const side = Math.max(widthOf(candidate), heightOf(candidate));
  const left = (candidate.left + candidate.right - side) / 2;
  const top = (candidate.top + candidate.bottom - side) / 2;
  return { ...candidate, left, top, right: left + side, bottom: top + side };
}

/** Of what overlaps, in shares of the union or of the smaller box. */
export type Overlap = 'union' | 'smaller';

export function overlapOf(a: Candidate, b: Candidate, of: Overlap): number {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  if (width <= 0 || height <= 0) return 0;
  const [areaA, areaB] = [widthOf(a) * heightOf(a), widthOf(b) * heightOf(b)];
  const shared = width * height;
  return shared / (of === 'union' ? areaA + areaB - shared : Math.min(areaA, areaB));
}

/** The surest first; what overlaps a surer one by more than `most` goes. */
export function thinned<T extends Candidate>(
  candidates: readonly T[],
  most: number,
  of: Overlap = 'union',
): T[] {
  const kept: T[] = [];
  for (const candidate of [...candidates].sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlapOf(candidate, other, of) <= most)) kept.push(candidate);
  }
  return kept;
}
