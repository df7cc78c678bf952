/**
 * Position embeddings for another number of patches: bicubic, with PyTorch's conventions of
 * `interpolate(mode='bicubic', align_corners=False)`, with or without `antialias=True`.
 * Source: Keys 1981 with a = -0.75 (PyTorch) and a = -0.5 (PyTorch with antialias, as Pillow).
 */
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';

/** Weights of the source samples that one target sample is made of. */
interface Taps {
  readonly first: number;
  readonly weights: Float64Array;
}

/**
 * @param positions [1, prefix + side², width]: positions of the tokens before the patches, then of the patches row by row
 * @param prefix how many positions come before those of the patches; they are kept as they are
 * @param toSide patches along one side of the new image
 * @param antialias as timm and DINOv2 with registers do it; transformers' ViT and DINOv2 do not
 * @returns [1, prefix + toSide², width]
 */
export function resizePositions(
  positions: FloatTensor,
  prefix: number,
  toSide: number,
  antialias: boolean,
): FloatTensor {
  const [, count = 0, width = 0] = positions.dims;
  const fromSide = Math.round(Math.sqrt(count - prefix));
  if (fromSide === toSide) return positions;
  const taps = antialias ? smoothedTaps(fromSide, toSide) : plainTaps(fromSide, toSide);
  const patches = positions.data.subarray(prefix * width);
  // First along each row, then along each column; the intermediate image is fromSide × toSide.
  const rows = new Float64Array(fromSide * toSide * width);
  for (let y = 0; y < fromSide; y++) {
    const row = patches.subarray(y * fromSide * width, (y + 1) * fromSide * width);
    resizeLine(row, rows.subarray(y * toSide * width, (y + 1) * toSide * width), taps, width);
  }
  const resized = new Float64Array(toSide * toSide * width);
  resizeLine(rows, resized, taps, toSide * width);
  const result = floatTensor([1, prefix + toSide * toSide, width]);
  result.data.set(positions.data.subarray(0, prefix * width));
  result.data.set(resized, prefix * width);
  return result;
}

/** A line of samples, each of `stride` values next to each other. */
function resizeLine(
  source: Float32Array | Float64Array,
  target: Float64Array,
  taps: readonly Taps[],
  stride: number,
): void {
  for (const [index, { first, weights }] of taps.entries()) {
    for (const [tap, weight] of weights.entries()) {
      const from = (first + tap) * stride;
      for (let value = 0; value < stride; value++) {
        target[index * stride + value]! += weight * source[from + value]!;
      }
    }
  }
}

/** Four samples each; beyond the edge the edge is repeated. */
function plainTaps(from: number, to: number): Taps[] {
  return Array.from({ length: to }, (_, index) => {
    const centre = ((index + 0.5) * from) / to - 0.5;
    const start = Math.floor(centre) - 1;
    const clamp = (place: number) => Math.min(from - 1, Math.max(0, place));
    const first = clamp(start);
    const weights = new Float64Array(clamp(start + 3) - first + 1);
    for (let tap = 0; tap < 4; tap++) {
      weights[clamp(start + tap) - first]! += cubic(start + tap - centre, -0.75);
    }
    return { first, weights };
  });
}

/** The kernel is as wide as the step between target samples; what falls beyond the edge is left out. */
function smoothedTaps(from: number, to: number): Taps[] {
  const step = from / to;
  const stretch = Math.max(1, step);
  const reach = 2 * stretch;
  return Array.from({ length: to }, (_, index) => {
    const centre = (index + 0.5) * step;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const weights = Float64Array.from({ length: end - first }, (_unused, tap) =>
      cubic((first + tap - centre + 0.5) / stretch, -0.5),
    );
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/** Keys' cubic convolution kernel at `x` samples from its centre. */
function cubic(x: number, a: number): number {
  const distance = Math.abs(x);
  if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a;
  return 0;
}
