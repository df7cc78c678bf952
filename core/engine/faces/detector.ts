/** Finds faces in photographs of any size. */
import { availableParallelism } from 'node:os';
import sharp from 'sharp';
import type { PixelRegion } from '../../data/decode.ts';
import type { FiveLandmarks } from '../../data/face-templates.ts';
import type { Face, FaceDetector } from '../../data/faces.ts';
import type { RgbImage } from '../../data/rgb-image.ts';
import {
  applySimilarity,
  factorOf,
  invertSimilarity,
  type Point,
  type Similarity,
} from '../../linalg/similarity-transform.ts';
import type { Logger } from '../../shared/logger.ts';
import type { DeviceKind } from '../engine.ts';
import { type FacePool, startFacePool } from './process-pool.ts';

export interface FaceDetectorOptions {
  /** Where it computes; when that does not work, on the processor. */
  device?: DeviceKind | undefined;
  /** Images at the same time on the processor; default: its cores, at most {@link mostProcesses}. */
  processes?: number | undefined;
  logger?: Logger | undefined;
}

const mostProcesses = 8;
/**
 * Longer side of a photograph as it is looked at first, and again when no face was found; the least face in each as a share of it;
 * degrees that it is turned by, since the networks find heads that are tilted by up to 25.
 */
const looks = [
  { side: 320, smallestFace: 0.08, tilts: [0, 35, -35] },
  { side: 768, smallestFace: 0.03, tilts: [0] },
  { side: 1536, smallestFace: 0.015, tilts: [0] },
] as const;
/** What needs no second look in another tilt: the confidence at least, and the degrees that a head is tilted by at most. */
const sure = { score: 0.995, roll: 20 } as const;
/** The landmarks are found in the photograph's own pixels: so many times the box is cut out, and reduced to this side. */
const closer = { boxes: 1.6, side: 160 } as const;

/**
 * Starts the detector and waits until its networks run; nothing is fetched.
 * @throws AppError MODEL_FILE_INVALID | INTERNAL
 */
export async function createFaceDetector(options: FaceDetectorOptions = {}): Promise<FaceDetector> {
  const { device = 'cpu', processes, logger } = options;
  const pool = await startPool(device, processes ?? Math.min(mostProcesses, availableParallelism()), logger);
  return {
    detect: (image, wanted) => detect(image, pool, wanted?.smallestFace ?? 0),
    close: () => pool.close(),
  };
}

async function startPool(
  device: DeviceKind,
  processes: number,
  logger: Logger | undefined,
): Promise<FacePool> {
  if (device === 'cpu') return startFacePool('cpu', processes, logger);
  try {
    return await startFacePool(device, 1, logger);
  } catch (error) {
    logger?.warn({ error, device }, 'faces are looked for on the processor: the chosen device does not work');
    return startFacePool('cpu', processes, logger);
  }
}

async function detect(image: RgbImage, pool: FacePool, wanted: number): Promise<Face[]> {
  for (const { side, smallestFace, tilts } of looks) {
    const reduced = await reducedTo(image, side);
    const enlarge = scaling(image.width / reduced.width);
    let best: { faces: Face[]; tilt: number; back: Similarity } | null = null;
    for (const tilt of tilts) {
      const { image: shown, back } = await tilted(reduced, tilt);
      const faces = await pool.find({ ...shown, look: { for: 'faces', smallestFace } });
      if (plausibility(faces) > plausibility(best?.faces ?? [])) best = { faces, tilt, back };
      if (isSure(faces)) break;
    }
    if (best !== null) {
      const { faces, tilt, back } = best;
      return Promise.all(
        faces.map((face) => lookCloser(image, mapped(mapped(face, back), enlarge), tilt, pool)),
      );
    }
    if (Math.max(image.width, image.height) <= side || smallestFace <= wanted) break;
  }
  return [];
}

const rollOf = ({ landmarks: [left, right] }: Face): number =>
  Math.abs((Math.atan2(right.y - left.y, right.x - left.x) * 180) / Math.PI);

/** A head that is tilted further is found less surely, or with its landmarks in the wrong places. */
const isSure = ([face]: readonly Face[]) =>
  face !== undefined && face.score >= sure.score && rollOf(face) <= sure.roll;

/** Of one photograph in several tilts: the surer its first face, and the more upright it is shown. */
const plausibility = ([face]: readonly Face[]): number =>
  face === undefined ? 0 : face.score - (0.1 * Math.max(0, rollOf(face) - sure.roll)) / 90;

/** The same face with landmarks found in the photograph's own pixels: they are the more exact. */
async function lookCloser(image: RgbImage, face: Face, tilt: number, pool: FacePool): Promise<Face> {
  const { box } = face;
  const middle = centreOf(face);
  // Turned, the corners of the cut are empty.
  const side = closer.boxes * Math.max(box.width, box.height) * (tilt === 0 ? 1 : Math.SQRT2);
  const left = Math.max(0, Math.floor(middle.x - side / 2));
  const top = Math.max(0, Math.floor(middle.y - side / 2));
  const width = Math.min(image.width - left, Math.ceil(side));
  const height = Math.min(image.height - top, Math.ceil(side));
  if (width < 1 || height < 1) return face;
  const reduced = await reducedTo(image, closer.side, { left, top, width, height });
  const { image: shown, back } = await tilted(reduced, tilt);
  const enlarge = scaling(width / reduced.width);
  const place = { ...enlarge, moveX: enlarge.moveX + left, moveY: enlarge.moveY + top };
  const there = mapped(mapped(face, invertSimilarity(place)), invertSimilarity(back));
  const [found] = await pool.find({ ...shown, look: { for: 'landmarks', box: there.box } });
  const same = found && mapped(mapped(found, back), place);
  return same && isSame(same, face) ? { ...same, score: face.score } : face;
}

/** Whether the centre of one lies in the middle of the other. */
function isSame(a: Face, b: Face): boolean {
  const [own, other] = [centreOf(a), centreOf(b)];
  const reach = Math.max(b.box.width, b.box.height) / 4;
  return Math.abs(own.x - other.x) < reach && Math.abs(own.y - other.y) < reach;
}

const centreOf = ({ box }: Face): Point => ({
  x: box.x + (box.width - 1) / 2,
  y: box.y + (box.height - 1) / 2,
});

/** From pixels of a reduced picture to the whole one's; the centre of the first pixel is 0 in both. */
const scaling = (factor: number): Similarity => ({
  a: factor,
  b: 0,
  moveX: (factor - 1) / 2,
  moveY: (factor - 1) / 2,
});

/** The box keeps its sides upright. */
function mapped(face: Face, similarity: Similarity): Face {
  const factor = factorOf(similarity);
  const [width, height] = [face.box.width * factor, face.box.height * factor];
  const centre = applySimilarity(similarity, centreOf(face));
  return {
    box: { x: centre.x - (width - 1) / 2, y: centre.y - (height - 1) / 2, width, height },
    landmarks: face.landmarks.map((point) => applySimilarity(similarity, point)) as unknown as FiveLandmarks,
    score: face.score,
  };
}

/**
 * The picture turned clockwise about its middle, with grey corners.
 * @returns also the way back, from pixels of the turned picture to its own
 */
async function tilted(image: RgbImage, degrees: number): Promise<{ image: RgbImage; back: Similarity }> {
  const { width, height, data } = image;
  if (degrees === 0) return { image, back: scaling(1) };
  const { data: turned, info } = await sharp(data, { raw: { width, height, channels: 3 } })
    .rotate(degrees, { background: '#808080' })
    .raw()
    .toBuffer({ resolveWithObject: true });
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), -Math.sin((degrees * Math.PI) / 180)];
  const [middleX, middleY] = [(info.width - 1) / 2, (info.height - 1) / 2];
  return {
    image: { width: info.width, height: info.height, data: Uint8Array.from(turned) },
    back: {
      ...{ a: cos, b: sin },
      moveX: (width - 1) / 2 - cos * middleX + sin * middleY,
      moveY: (height - 1) / 2 - sin * middleX - cos * middleY,
    },
  };
}

/** A copy of the image, or of a part of it, that nothing else uses, no longer than `side`. */
async function reducedTo(image: RgbImage, side: number, part?: PixelRegion): Promise<RgbImage> {
  const { width, height, data } = image;
  if (part === undefined && Math.max(width, height) <= side)
    return { width, height, data: Uint8Array.from(data) };
  const whole = sharp(data, { raw: { width, height, channels: 3 } });
  const { data: reduced, info } = await (part === undefined ? whole : whole.extract(part))
    .resize({ width: side, height: side, fit: 'inside', withoutEnlargement: true })
    .raw()
    .toBuffer({ resolveWithObject: true });
  // sharp's buffer may be a slice of a larger pool.
  return { width: info.width, height: info.height, data: Uint8Array.from(reduced) };
}
