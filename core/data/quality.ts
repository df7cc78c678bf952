/**
 * What can be measured of the quality of a face in a photograph. Figures, no marks: what is good enough is up to the
 * site's policy. docs/images.md says what each means and what it does not.
 */

import { applySimilarity, factorOf, invertSimilarity } from '../linalg/similarity-transform.ts';
import { type ImageQuality, imageQualitySchema } from '../store/records.ts';
import { poseOf } from './face-pose.ts';
import { alignRegion, type FaceRegion } from './face-region.ts';
import { dlibTemplate, toTemplate } from './face-templates.ts';
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

export interface Measured {
  quality: ImageQuality;
  /** Perceptual hash, 64 hex digits. */
  cropHash: string;
}

interface MeasuredPhotograph {
  /** As it shows the face upright. */
  photograph: { width: number; height: number };
  face: Face;
  region: FaceRegion;
  turned: Turn;
  notes: readonly string[];
}

/** All figures are taken from this square, whatever base models will take. */
const square = { alignment: 'dlib-150', side: 150 } as const;

/** Of a face that was found in a photograph. */
export function measureFace({ photograph, face, region, turned, notes }: MeasuredPhotograph): Measured {
  const { side } = square;
  // Beyond the border nothing was photographed: its outermost pixels are neither black nor sharp.
  const data = alignRegion(region, square.alignment, side, 'edge');
  const brightness = shrinkBrightness({ width: side, height: side, data }, whole(side), measuredSide);
  const { roll, yaw, pitch } = poseOf(face);
  const [leftEye, rightEye] = face.landmarks;
  return {
    quality: imageQualitySchema.parse({
      facePixels: shownPixels(photograph, face),
      eyeDistance: round(Math.hypot(rightEye.x - leftEye.x, rightEye.y - leftEye.y), 1),
      ...lightOf(brightness),
      ...{ roll: round(roll, 1), yaw: round(yaw, 1), pitch: round(pitch, 1) },
      detectorScore: round(face.score, 3),
      ...{ turned, notes: [...notes] },
    }),
    cropHash: pictureHash(halve(brightness)),
  };
}

/**
 * Of a picture that was cropped before it came here: it has no landmarks.
 * @param picture the square, with black bars where the picture had none
 * @param shown width and height of the picture in pixels
 */
export function measurePicture(
  picture: RgbImage,
  shown: { width: number; height: number },
  notes: readonly string[],
): Measured {
  const brightness = shrinkBrightness(picture, contentOf(picture, shown), measuredSide);
  return {
    quality: imageQualitySchema.parse({
      // The face is in its narrower side.
      facePixels: Math.min(shown.width, shown.height),
      ...{ eyeDistance: null, roll: null, yaw: null, pitch: null, detectorScore: null },
      ...lightOf(brightness),
      ...{ turned: 0, notes: [...notes] },
    }),
    cropHash: pictureHash(halve(brightness)),
  };
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));

function lightOf(brightness: Float64Array) {
  const inner = innerValues(brightness, measuredSide);
  const shareOf = (counts: (value: number) => boolean) =>
    round(inner.filter(counts).length / inner.length, 3);
  return {
    sharpness: round(sharpnessOf(brightness, measuredSide), 3),
    brightness: round(inner.reduce((sum, value) => sum + value, 0) / inner.length / 255, 3),
    blackShare: shareOf((value) => value <= blackLevel),
    whiteShare: shareOf((value) => value >= whiteLevel),
  };
}

/** Side of the face's square in pixels of the photograph; of one that the border cuts, the longer side of what is left. */
function shownPixels({ width, height }: { width: number; height: number }, { landmarks }: Face): number {
  const fromSquare = invertSimilarity(toTemplate(dlibTemplate, landmarks, square.side));
  const side = square.side * factorOf(fromSquare);
  const centre = applySimilarity(fromSquare, { x: square.side / 2, y: square.side / 2 });
  const inside = (middle: number, end: number) =>
    Math.max(0, Math.min(end, middle + side / 2) - Math.max(0, middle - side / 2));
  return Math.round(Math.max(inside(centre.x, width), inside(centre.y, height)));
}

const whole = (side: number): Rectangle => ({ left: 0, top: 0, width: side, height: side });

interface Rectangle {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** The part of the square that is not bars; see `fitToSquare`. */
function contentOf(crop: RgbImage, shown: { width: number; height: number }): Rectangle {
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
