/**
 * What an import keeps of a photograph: a region around the face that every template's square lies in, however the head is turned,
 * with the landmarks in it. So another base model needs no second import: each one's own square is warped out of the region.
 */
import sharp from 'sharp';
import type { Alignment } from '../config/alignment.ts';
import {
  applySimilarity,
  factorOf,
  invertSimilarity,
  type Point,
  type Similarity,
} from '../linalg/similarity-transform.ts';
import { AppError } from '../shared/errors.ts';
import type { PixelRegion } from './decode.ts';
import { arcfaceTemplate, type FiveLandmarks, templateOf, toTemplate } from './face-templates.ts';
import type { Face } from './faces.ts';
import type { RgbImage } from './rgb-image.ts';
import { type Outside, warpToSquare } from './warp.ts';

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The part of a picture that is kept, and where the face is in it; in its own pixels, the centre of the first one being 0. */
export interface FaceRegion {
  readonly image: RgbImage;
  readonly landmarks: FiveLandmarks;
  readonly box: Box;
}

/**
 * In pixels of ArcFace's template: the squares of both templates span 0 to 112 across and 0 to 121 down, so a circle of radius 82
 * around (56, 60) holds them however they are turned.
 */
const regionCentre: Point = { x: 56, y: 60 };
const regionSide = 168;

/**
 * Longest side of a region in pixels: a square of 224 pixels, the commonest size of larger networks, is not enlarged when the
 * photograph has the pixels. 339 kB at most; a smaller face is kept with the pixels that it has.
 */
export const largestRegion = 336;

/** The square around a face in pixels of its picture; it may reach over the border. */
function regionAround(landmarks: FiveLandmarks): { centre: Point; side: number } {
  const fromTemplate = invertSimilarity(toTemplate(arcfaceTemplate, landmarks, arcfaceTemplate.side));
  return { centre: applySimilarity(fromTemplate, regionCentre), side: regionSide * factorOf(fromTemplate) };
}

/** @throws AppError IMAGE_UNREADABLE when the face lies outside the picture */
function insideOf(
  { width, height }: RgbImage,
  { centre, side }: ReturnType<typeof regionAround>,
): PixelRegion {
  const left = Math.max(0, Math.floor(centre.x - side / 2));
  const top = Math.max(0, Math.floor(centre.y - side / 2));
  const right = Math.min(width, Math.ceil(centre.x + side / 2) + 1);
  const bottom = Math.min(height, Math.ceil(centre.y + side / 2) + 1);
  if (!(right > left && bottom > top))
    throw new AppError('IMAGE_UNREADABLE', 'The face lies outside the image.');
  return { left, top, width: right - left, height: bottom - top };
}

/**
 * The region around a face, with the picture's own pixels, or reduced to {@link largestRegion}.
 * @throws AppError IMAGE_UNREADABLE when the face lies outside the picture
 */
export async function cutRegion(image: RgbImage, { landmarks, box }: Face): Promise<FaceRegion> {
  const around = regionAround(landmarks);
  const part = insideOf(image, around);
  const factor = Math.min(1, largestRegion / around.side, largestRegion / Math.max(part.width, part.height));
  const size = {
    width: Math.max(1, Math.round(part.width * factor)),
    height: Math.max(1, Math.round(part.height * factor)),
  };
  const { data, info } = await pixelsOf(image, part, size);
  const [scaleX, scaleY] = [info.width / part.width, info.height / part.height];
  const move = ({ x, y }: Point): Point => ({
    x: (x - part.left + 0.5) * scaleX - 0.5,
    y: (y - part.top + 0.5) * scaleY - 0.5,
  });
  return {
    image: { width: info.width, height: info.height, data },
    landmarks: landmarks.map(move) as unknown as FiveLandmarks,
    box: { ...move(box), width: box.width * scaleX, height: box.height * scaleY },
  };
}

async function pixelsOf(
  { width, height, data }: RgbImage,
  part: PixelRegion,
  size: { width: number; height: number },
) {
  const cut = sharp(data, { raw: { width, height, channels: 3 } }).extract(part);
  const isReduced = size.width < part.width || size.height < part.height;
  return (isReduced ? cut.resize({ ...size, fit: 'fill' }) : cut)
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
}

/**
 * The square that a base model takes of a region.
 * @returns RGB bytes [side, side, 3]
 */
export function alignRegion(
  region: FaceRegion,
  alignment: Alignment,
  side: number,
  outside?: Outside,
): Uint8Array {
  return warpToSquare(region.image, squareOf(region, alignment, side), side, outside);
}

/** From pixels of the region to pixels of the square. */
export function squareOf(
  { image, landmarks, box }: FaceRegion,
  alignment: Alignment,
  side: number,
): Similarity {
  const template = templateOf(alignment);
  if (template !== null) return toTemplate(template, landmarks, side);
  return alignment === 'box' ? aroundBox(box, side) : aroundBox({ x: 0, y: 0, ...sizeOf(image) }, side);
}

const sizeOf = ({ width, height }: RgbImage) => ({ width, height });

/** The square with the same centre whose side is the box's longer one. */
function aroundBox({ x, y, width, height }: Box, side: number): Similarity {
  const a = side / Math.max(width, height);
  // Pixel centres are whole numbers: a box of w pixels has its centre at (w - 1) / 2.
  const middle = (side - 1) / 2;
  return { a, b: 0, moveX: middle - a * (x + (width - 1) / 2), moveY: middle - a * (y + (height - 1) / 2) };
}
