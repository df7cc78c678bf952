/** Random changes of a face crop while training: drawn from a seed, recorded as numbers, then applied. */
import { type AugmentationSettings, augmentationSettingsSchema } from '../config/local-training.ts';
import type { Random } from '../shared/random.ts';
import { blurPlanes } from './blur.ts';

/** What is done to one image; these numbers and the image give its pixels again. */
export interface Augmentation {
  flip: boolean;
  rotationDegrees: number;
  /** Share of the image's side. */
  shiftX: number;
  shiftY: number;
  /** Above 1 enlarges, which crops. */
  zoom: number;
  /** Added to every channel; units of 0…255. */
  brightness: number;
  /** Factor on the distance from middle grey. */
  contrast: number;
  /** Factor on the distance from the pixel's own grey. */
  saturation: number;
  /** Deviation of a Gaussian blur as a share of the side; 0 leaves the image sharp. */
  blur: number;
}

const middleGrey = 127.5;
const fullRange = 255;
/** Share of red, green and blue in what the eye takes for brightness (ITU-R BT.601). */
const [redShare, greenShare, blueShare] = [0.299, 0.587, 0.114];

/** The strengths behind the setting `augment`; undefined for none. */
export function augmentationOf(augment: boolean | AugmentationSettings): AugmentationSettings | undefined {
  if (augment === false) return undefined;
  return augment === true ? augmentationSettingsSchema.parse({}) : augment;
}

/** Takes the same count of random numbers whatever the settings, so that one setting does not change the others. */
export function drawAugmentation(random: Random, settings: AugmentationSettings): Augmentation {
  // Adding 0 turns −0 into 0.
  const within = (limit: number) => (2 * random.uniform() - 1) * limit + 0;
  return {
    flip: random.uniform() < settings.flip,
    rotationDegrees: within(settings.rotationDegrees),
    shiftX: within(settings.shift),
    shiftY: within(settings.shift),
    zoom: 1 + within(settings.zoom),
    brightness: within(settings.brightness) * fullRange,
    contrast: 1 + within(settings.contrast),
    saturation: 1 + within(settings.saturation),
    blur: Math.max(0, within(settings.blur)),
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
 * transform about the centre, with bilinear interpolation; outside the image its edge is repeated. Then
 * saturation, contrast and brightness, cut to 0…255, and last the blur.
 */
export function writeAugmentedPlanes(
  crop: Uint8Array,
  side: number,
  augmentation: Augmentation,
  target: Float32Array,
): void {
  const { flip, rotationDegrees, shiftX, shiftY, zoom, brightness, contrast, saturation } = augmentation;
  const angle = (rotationDegrees * Math.PI) / 180;
  const cos = Math.cos(angle) / zoom;
  const sin = Math.sin(angle) / zoom;
  const centre = (side - 1) / 2;
  const mirror = flip ? -1 : 1;
  const offset = middleGrey * (1 - contrast) + brightness;
  const own = contrast * saturation;
  const grey = contrast * (1 - saturation);
  const plane = side * side;
  const last = side - 1;
  const line = 3 * side;
  let at = 0;
  for (let y = 0; y < side; y++) {
    const dy = y - centre - shiftY * side;
    for (let x = 0; x < side; x++, at++) {
      const dx = x - centre - shiftX * side;
      let sourceX = centre + mirror * (cos * dx + sin * dy);
      let sourceY = centre + cos * dy - sin * dx;
      sourceX = sourceX < 0 ? 0 : Math.min(sourceX, last);
      sourceY = sourceY < 0 ? 0 : Math.min(sourceY, last);
      // Not negative, so cutting is rounding down.
      const x0 = sourceX | 0;
      const y0 = sourceY | 0;
      const fx = sourceX - x0;
      const fy = sourceY - y0;
      const a = y0 * line + 3 * x0;
      const b = x0 < last ? a + 3 : a;
      const down = y0 < last ? line : 0;
      const c = a + down;
      const d = b + down;
      const topLeft = (1 - fx) * (1 - fy);
      const topRight = fx * (1 - fy);
      const bottomLeft = (1 - fx) * fy;
      const bottomRight = fx * fy;
      const r = crop[a]! * topLeft + crop[b]! * topRight + crop[c]! * bottomLeft + crop[d]! * bottomRight;
      const g =
        crop[a + 1]! * topLeft +
        crop[b + 1]! * topRight +
        crop[c + 1]! * bottomLeft +
        crop[d + 1]! * bottomRight;
      const v =
        crop[a + 2]! * topLeft +
        crop[b + 2]! * topRight +
        crop[c + 2]! * bottomLeft +
        crop[d + 2]! * bottomRight;
      const shared = grey * (redShare * r + greenShare * g + blueShare * v) + offset;
      const red = own * r + shared;
      const green = own * g + shared;
      const blue = own * v + shared;
      target[at] = red < 0 ? 0 : Math.min(red, fullRange);
      target[plane + at] = green < 0 ? 0 : Math.min(green, fullRange);
      target[2 * plane + at] = blue < 0 ? 0 : Math.min(blue, fullRange);
    }
  }
  blurPlanes(target, side, augmentation.blur * side);
}
