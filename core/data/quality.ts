/**
 * What can be measured of the quality of a face in a photograph. Figures, no marks: what is good enough is up to the
 * site's policy. docs/images.md says what each means and what it does not.
 */
import { type ImageQuality, imageQualitySchema } from '../store/records.ts';
import { poseOf } from './face-pose.ts';
import type { Face } from './faces.ts';
import type { Turn } from './orientation.ts';
import { hashedSide, pictureHash } from './picture-hash.ts';
import type { RgbImage } from './rgb-image.ts';

/** Brightness is compared at one size, so that the figures mean the same for every base model and photograph. */
const measuredSide = 64;
/** Without the outermost part: background, hair and the edge of the crop. */
const innerShare = 0.8;
/** Of 255. Far from what skin of any colour reflects in an ordinary exposure. */
const blackLevel = 6;
const whiteLevel = 250;

export interface MeasuredCrop {
  /** The square crop, with black bars where the photograph ended. */
  crop: RgbImage;
  /** Width and height of what the crop shows, in pixels of the photograph. */
  shown: { width: number; height: number };
  /** Null for images that were cropped before they came here. */
  face: Face | null;
  turned: Turn;
  notes: readonly string[];
}

/** @returns the figures, and a perceptual hash of the crop (64 hex digits) */
export function measureQuality({ crop, shown, face, turned, notes }: MeasuredCrop): {
  quality: ImageQuality;
  cropHash: string;
} {
  const brightness = shrinkBrightness(crop, contentOf(crop, shown), measuredSide);
  const inner = innerValues(brightness, measuredSide);
  const pose = face === null ? null : poseOf(face);
  const round = (value: number, digits: number) => Number(value.toFixed(digits));
  const quality: ImageQuality = {
    // The square of a face that was found may be cut by the border; a picture that is one holds it in its narrow side.
    facePixels: Math.round((face === null ? Math.min : Math.max)(shown.width, shown.height)),
    eyeDistance: face === null ? null : round(eyeDistance(face), 1),
    sharpness: round(sharpnessOf(brightness, measuredSide), 3),
    brightness: round(inner.reduce((sum, value) => sum + value, 0) / inner.length / 255, 3),
    blackShare: round(inner.filter((value) => value <= blackLevel).length / inner.length, 3),
    whiteShare: round(inner.filter((value) => value >= whiteLevel).length / inner.length, 3),
    roll: pose && round(pose.roll, 1),
    yaw: pose && round(pose.yaw, 1),
    pitch: pose && round(pose.pitch, 1),
    detectorScore: face && round(face.score, 3),
    turned,
    notes: [...notes],
  };
  return { quality: imageQualitySchema.parse(quality), cropHash: pictureHash(halve(brightness)) };
}

function eyeDistance({ landmarks }: Face): number {
  const centre = (from: number) => {
    const eye = landmarks.slice(from, from + 6);
    return { x: eye.reduce((sum, { x }) => sum + x, 0) / 6, y: eye.reduce((sum, { y }) => sum + y, 0) / 6 };
  };
  const [left, right] = [centre(36), centre(42)];
  return Math.hypot(right.x - left.x, right.y - left.y);
}

interface Rectangle {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** The part of the square that is not bars; see `fitToSquare`. */
function contentOf(crop: RgbImage, shown: MeasuredCrop['shown']): Rectangle {
  const longest = Math.max(shown.width, shown.height);
  const width = Math.max(1, Math.round((crop.width * shown.width) / longest));
  const height = Math.max(1, Math.round((crop.height * shown.height) / longest));
  return { left: (crop.width - width) >> 1, top: (crop.height - height) >> 1, width, height };
}

/** Mean brightness (ITU-R BT.601) of each cell of a grid of side × side over a part of the image. */
function shrinkBrightness({ width, data }: RgbImage, part: Rectangle, side: number): Float64Array {
  const sums = new Float64Array(side * side);
  const counts = new Uint32Array(side * side);
  const columns = Uint16Array.from({ length: part.width }, (_, x) => Math.floor((x * side) / part.width));
  for (let y = 0; y < part.height; y++) {
    const row = Math.floor((y * side) / part.height) * side;
    let at = ((part.top + y) * width + part.left) * 3;
    for (let x = 0; x < part.width; x++, at += 3) {
      const cell = row + columns[x]!;
      sums[cell]! += 0.299 * data[at]! + 0.587 * data[at + 1]! + 0.114 * data[at + 2]!;
      counts[cell]! += 1;
    }
  }
  // A crop smaller than the grid leaves cells empty: they take the value of their neighbour before them.
  for (let cell = 0; cell < sums.length; cell++)
    sums[cell] = counts[cell]! > 0 ? sums[cell]! / counts[cell]! : (sums[neighbour(cell, side, counts)] ?? 0);
  return sums;
}

function neighbour(cell: number, side: number, counts: Uint32Array): number {
  for (let left = cell; left >= cell - (cell % side); left--) if (counts[left]! > 0) return left;
  return cell - side;
}

const margin = Math.round((measuredSide * (1 - innerShare)) / 2);

function innerValues(brightness: Float64Array, side: number): Float64Array {
  const inner = side - 2 * margin;
  const values = new Float64Array(inner * inner);
  for (let y = 0; y < inner; y++) {
    const from = (y + margin) * side + margin;
    values.set(brightness.subarray(from, from + inner), y * inner);
  }
  return values;
}

/**
 * Variance of the Laplacian over the variance of brightness: how much of the contrast is in the finest details. Dividing
 * makes it the same for a pale and a contrasty picture.
 */
function sharpnessOf(brightness: Float64Array, side: number): number {
  const laplacian = new Float64Array((side - 2 * margin) ** 2);
  let count = 0;
  for (let y = margin; y < side - margin; y++) {
    for (let x = margin; x < side - margin; x++) {
      const at = y * side + x;
      laplacian[count++] =
        brightness[at - 1]! +
        brightness[at + 1]! +
        brightness[at - side]! +
        brightness[at + side]! -
        4 * brightness[at]!;
    }
  }
  // One grey level: below that it is noise of rounding.
  return variance(laplacian) / Math.max(1, variance(innerValues(brightness, side)));
}

function variance(values: Float64Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
}

function halve(brightness: Float64Array): Float64Array {
  const half = new Float64Array(hashedSide * hashedSide);
  for (let y = 0; y < hashedSide; y++) {
    for (let x = 0; x < hashedSide; x++) {
      const at = 2 * y * measuredSide + 2 * x;
      half[y * hashedSide + x] =
        (brightness[at]! +
          brightness[at + 1]! +
          brightness[at + measuredSide]! +
          brightness[at + measuredSide + 1]!) /
        4;
    }
  }
  return half;
}
