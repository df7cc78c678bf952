/** Gaussian blur of the planes of one image, in two passes of one dimension each. */

/** Below this deviation a neighbour's share is under 0.4 %: nothing that 8-bit images show. */
const smallestDeviationPixels = 0.3;

/** Half of a symmetric kernel from its middle outwards; the whole sums to 1. */
function gaussianHalf(deviationPixels: number): Float64Array {
  const radius = Math.ceil(3 * deviationPixels);
  const half = new Float64Array(radius + 1);
  let total = 0;
  for (let i = 0; i <= radius; i++) {
    half[i] = Math.exp((-i * i) / (2 * deviationPixels * deviationPixels));
    total += i === 0 ? half[i]! : 2 * half[i]!;
  }
  return half.map((value) => value / total);
}

/**
 * Blurs three planes in place; past the border the edge is repeated. Very small deviations change nothing.
 * @param planes [3, side, side]
 */
export function blurPlanes(planes: Float32Array, side: number, deviationPixels: number): void {
  if (deviationPixels < smallestDeviationPixels) return;
  const half = gaussianHalf(deviationPixels);
  const size = side * side;
  const rows = new Float32Array(size);
  for (let channel = 0; channel < 3; channel++) {
    const plane = planes.subarray(channel * size, (channel + 1) * size);
    blurAlongRows(plane, rows, side, half);
    blurAlongColumns(rows, plane, side, half);
  }
}

function blurAlongRows(from: Float32Array, to: Float32Array, side: number, half: Float64Array): void {
  const radius = half.length - 1;
  const last = side - 1;
  for (let start = 0; start < from.length; start += side) {
    for (let x = 0; x < side; x++) {
      let sum = from[start + x]! * half[0]!;
      for (let k = 1; k <= radius; k++) {
        const left = x < k ? 0 : x - k;
        const right = Math.min(x + k, last);
        sum += (from[start + left]! + from[start + right]!) * half[k]!;
      }
      to[start + x] = sum;
    }
  }
}

function blurAlongColumns(from: Float32Array, to: Float32Array, side: number, half: Float64Array): void {
  const radius = half.length - 1;
  const last = side - 1;
  for (let y = 0; y < side; y++) {
    const start = y * side;
    for (let x = 0; x < side; x++) to[start + x] = from[start + x]! * half[0]!;
    for (let k = 1; k <= radius; k++) {
      const above = (y < k ? 0 : y - k) * side;
      const below = Math.min(y + k, last) * side;
      const share = half[k]!;
      for (let x = 0; x < side; x++) to[start + x]! += (from[above + x]! + from[below + x]!) * share;
    }
  }
}
