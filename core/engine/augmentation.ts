/** Random changes of a face crop while training: drawn from a seed, recorded as numbers, then applied. */
import type { Random } from '../shared/random.ts';

export interface Augmentation {
  flip: boolean;
  rotationDegrees: number;
  /** Share of the picture's side. */
  shiftX: number;
  shiftY: number;
  /** Above 1 enlarges. */
  zoom: number;
  /** Added to every channel; units of 0…255. */
  brightness: number;
  /** Factor on the distance from middle grey. */
  contrast: number;
}

const limits = { rotationDegrees: 8, shift: 0.04, zoom: 0.08, brightness: 20, contrast: 0.15 };
const middleGrey = 127.5;

export function drawAugmentation(random: Random): Augmentation {
  const within = (limit: number) => (2 * random.uniform() - 1) * limit;
  return {
    flip: random.uniform() < 0.5,
    rotationDegrees: within(limits.rotationDegrees),
    shiftX: within(limits.shift),
    shiftY: within(limits.shift),
    zoom: 1 + within(limits.zoom),
    brightness: within(limits.brightness),
    contrast: 1 + within(limits.contrast),
  };
}

/**
 * Writes one crop into a batch: from interleaved bytes to three planes of float32 in 0…255.
 * @param crop RGB bytes [side, side, 3]
 * @param target the planes [3, side, side] of one sample
 */
export function writePlanes(crop: Uint8Array, side: number, target: Float32Array): void {
  const plane = side * side;
  for (let i = 0; i < plane; i++) {
    target[i] = crop[3 * i]!;
    target[plane + i] = crop[3 * i + 1]!;
    target[2 * plane + i] = crop[3 * i + 2]!;
  }
}

/**
 * {@link writePlanes} with an augmentation. Each target pixel is looked up in the source by the inverse
 * transform about the centre, with bilinear interpolation; outside the picture its edge is repeated.
 */
export function writeAugmentedPlanes(
  crop: Uint8Array,
  side: number,
  augmentation: Augmentation,
  target: Float32Array,
): void {
  const { flip, rotationDegrees, shiftX, shiftY, zoom, brightness, contrast } = augmentation;
  const angle = (rotationDegrees * Math.PI) / 180;
  const cos = Math.cos(angle) / zoom;
  const sin = Math.sin(angle) / zoom;
  const centre = (side - 1) / 2;
  const mirror = flip ? -1 : 1;
  const offset = middleGrey * (1 - contrast) + brightness;
  const plane = side * side;
  const last = side - 1;
  for (let y = 0; y < side; y++) {
    const dy = y - centre - shiftY * side;
    for (let x = 0; x < side; x++) {
      const dx = x - centre - shiftX * side;
      const sourceX = Math.min(last, Math.max(0, centre + mirror * (cos * dx + sin * dy)));
      const sourceY = Math.min(last, Math.max(0, centre + cos * dy - sin * dx));
      const x0 = Math.floor(sourceX);
      const y0 = Math.floor(sourceY);
      const fx = sourceX - x0;
      const fy = sourceY - y0;
      const topLeft = 3 * (y0 * side + x0);
      const right = x0 < last ? 3 : 0;
      const down = y0 < last ? 3 * side : 0;
      const at = y * side + x;
      for (let channel = 0; channel < 3; channel++) {
        const from = topLeft + channel;
        const top = crop[from]! * (1 - fx) + crop[from + right]! * fx;
        const bottom = crop[from + down]! * (1 - fx) + crop[from + down + right]! * fx;
        const value = (top * (1 - fy) + bottom * fy) * contrast + offset;
        target[channel * plane + at] = Math.min(255, Math.max(0, value));
      }
    }
  }
}
