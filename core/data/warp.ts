/** A square cut out of a picture by a similarity transform, with one interpolation. */
import { factorOf, invertSimilarity, type Similarity } from '../linalg/similarity-transform.ts';
import type { RgbImage } from './rgb-image.ts';

/** What a square shows where the picture ended: black bars, or its outermost pixels repeated. */
export type Outside = 'black' | 'edge';

/** A picture reduced by more than this is sampled at several places of each pixel, so that fine structure does not alias. */
const mostForOneSample = 1.25;
const mostSamples = 8;

/**
 * Bilinear, as OpenCV's warpAffine with INTER_LINEAR and a border of zeros; where the picture gets smaller, the mean of n × n such
 * samples in each pixel.
 * @param toSquare from pixels of the picture to pixels of the square; the centre of the first pixel is 0 in both
 * @returns RGB bytes [side, side, 3]
 */
export function warpToSquare(
  { width, height, data }: RgbImage,
  toSquare: Similarity,
  side: number,
  outside: Outside = 'black',
): Uint8Array {
  const { a, b, moveX, moveY } = invertSimilarity(toSquare);
  const reduction = 1 / factorOf(toSquare);
  const samples = reduction <= mostForOneSample ? 1 : Math.min(mostSamples, Math.ceil(reduction));
  const target = new Uint8Array(3 * side * side);
  const [lastX, lastY] = [width - 1, height - 1];
  const weight = 1 / (samples * samples);
  const first = (1 / samples - 1) / 2;
  const repeats = outside === 'edge';
  let at = 0;
  for (let v = 0; v < side; v++) {
    for (let u = 0; u < side; u++, at += 3) {
      let [red, green, blue] = [0, 0, 0];
      for (let row = 0; row < samples; row++) {
        const y0 = v + first + row / samples;
        for (let column = 0; column < samples; column++) {
          const x0 = u + first + column / samples;
          let x = a * x0 - b * y0 + moveX;
          let y = b * x0 + a * y0 + moveY;
          if (repeats) {
            x = Math.max(0, Math.min(lastX, x));
            y = Math.max(0, Math.min(lastY, y));
          } else if (!(x > -1 && y > -1 && x < width && y < height)) continue;
          const left = Math.floor(x);
          const top = Math.floor(y);
          const toRight = x - left;
          const down = y - top;
          // Of the four pixels around, those outside are black.
          const atLeft = left >= 0 ? 1 - toRight : 0;
          const atRight = left < lastX ? toRight : 0;
          const atTop = top >= 0 ? 1 - down : 0;
          const atBottom = top < lastY ? down : 0;
          const p = 3 * (Math.max(0, top) * width + Math.max(0, left));
          const q = left >= 0 && left < lastX ? 3 : 0;
          const r = top >= 0 && top < lastY ? 3 * width : 0;
          const [w1, w2, w3, w4] = [atTop * atLeft, atTop * atRight, atBottom * atLeft, atBottom * atRight];
          red += w1 * data[p]! + w2 * data[p + q]! + w3 * data[p + r]! + w4 * data[p + q + r]!;
          green +=
            w1 * data[p + 1]! + w2 * data[p + q + 1]! + w3 * data[p + r + 1]! + w4 * data[p + q + r + 1]!;
          blue +=
            w1 * data[p + 2]! + w2 * data[p + q + 2]! + w3 * data[p + r + 2]! + w4 * data[p + q + r + 2]!;
        }
      }
      target[at] = red * weight + 0.5;
      target[at + 1] = green * weight + 0.5;
      target[at + 2] = blue * weight + 0.5;
    }
  }
  return target;
}
