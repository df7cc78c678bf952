/**
 * Windows for faces as large as the photograph. The network that proposes windows sees a face in 12 × 12 pixels, where large glasses
 * or a beard cut by the border leave little of it; the two after it know these faces when they are shown the window.
 */
import type { Candidate } from './candidates.ts';

/** Sides of the windows: from this share of the shorter side of the photograph to this one of its longer side. */
const sides = { least: 0.7, most: 1.4, factor: 1.2 } as const;
/** From one window to the next in shares of its side, and how far one reaches over the border at least. */
const step = 0.2;
const reach = 0.1;

/** What is longer than so many times its width is not the close-up of a face. */
const longest = 2.5;

/** 42 squares for a photograph as wide as high, 72 for one of 4:3, some 200 at most. */
export function closeUpWindows({ width, height }: { width: number; height: number }): Candidate[] {
  const [shorter, longer] = [Math.min(width, height), Math.max(width, height)];
  const windows: Candidate[] = [];
  if (longer > longest * shorter) return windows;
  for (let side = sides.least * shorter; side <= sides.most * longer; side *= sides.factor)
    for (const top of starts(height, side))
      for (const left of starts(width, side))
        windows.push({ left, top, right: left + side, bottom: top + side, score: 0 });
  return windows;
}

/** Where windows of this side start along a length that they cover, a little over both ends, or that they reach over. */
function starts(length: number, side: number): number[] {
  const slack = Math.max(0, length - side) + 2 * reach * side;
  const count = Math.ceil(slack / (step * side) - 1e-9) + 1;
  const first = (length - side - slack) / 2;
  return Array.from({ length: count }, (_, index) => first + (slack * index) / (count - 1));
}
