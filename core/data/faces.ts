/** Face detection and alignment in a worker thread; see face-worker.ts for the networks. */
import { Worker } from 'node:worker_threads';
import sharp from 'sharp';
import type { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { fitToSquare, type PixelRegion } from './decode.ts';
import { type FaceRequest, faceReplySchema, type faceSchema } from './face-protocol.ts';
import type { RgbImage } from './rgb-image.ts';

/**
 * A face in pixels of the image given to `detect`. `landmarks` are the usual 68 points (iBUG order):
 * jaw 0–16, brows 17–26, nose 27–35, eyes 36–47, mouth 48–67. `score` is the confidence in [0, 1].
 */
export type Face = z.infer<typeof faceSchema>;
export type Box = Face['box'];

export interface FaceDetector {
  /**
   * Every face in the image, the surest first. The caller's event loop stays free meanwhile.
   * @throws AppError INTERNAL when the networks cannot be loaded or the worker thread ends
   */
  detect(image: RgbImage): Promise<Face[]>;
  /** Ends the worker thread; images still waiting are refused. */
  close(): Promise<void>;
}

interface Waiting {
  resolve(faces: Face[]): void;
  reject(error: Error): void;
}

const detectorFailed = (cause: unknown) =>
  new AppError('INTERNAL', 'The face detector could not run.', { cause });

/** Longest side that the detector gets: its network looks at 512 pixels, landmarks need some more. */
const detectionSide = 1024;

/**
 * Starts the worker thread and waits until its networks are loaded (about 12 MB from disk, nothing fetched).
 * @throws AppError INTERNAL
 */
export async function createFaceDetector(): Promise<FaceDetector> {
  const worker = new Worker(new URL('./face-worker.ts', import.meta.url), { name: 'anneal-faces' });
  const waiting = new Map<number, Waiting>();
  let nextId = 1;
  let failure: Error | null = null;
  const fail = (error: Error) => {
    failure ??= error;
    for (const { reject } of waiting.values()) reject(failure);
    waiting.clear();
  };

  await new Promise<void>((resolve, reject) => {
    worker.on('error', (error) => {
      fail(detectorFailed(error));
      reject(detectorFailed(error));
    });
    worker.on('exit', () => {
      fail(detectorFailed(new Error('the worker thread ended')));
      reject(failure);
    });
    worker.on('message', (message: unknown) => {
      const reply = faceReplySchema.parse(message);
      if (reply.type === 'ready') return resolve();
      if (reply.type === 'failed' && reply.id === null) return reject(detectorFailed(reply.message));
      const request = waiting.get(reply.id!);
      waiting.delete(reply.id!);
      if (reply.type === 'faces') request?.resolve(reply.faces);
      else request?.reject(detectorFailed(reply.message));
    });
  }).catch(async (error: unknown) => {
    await worker.terminate();
    throw error;
  });
  // An idle detector does not keep the agent alive.
  worker.unref();

  return {
    async detect(image) {
      if (failure) throw failure;
      const { small, scale } = await shrink(image);
      const request: FaceRequest = { id: nextId++, ...small };
      worker.ref();
      try {
        const faces = await new Promise<Face[]>((resolve, reject) => {
          waiting.set(request.id, { resolve, reject });
          worker.postMessage(request, [request.data.buffer as ArrayBuffer]);
        });
        return faces.map((face) => enlarge(face, scale));
      } finally {
        if (waiting.size === 0) worker.unref();
      }
    },
    async close() {
      failure ??= detectorFailed(new Error('the face detector was closed'));
      await worker.terminate();
    },
  };
}

// A copy that may be given away: its buffer moves to the worker thread.
async function shrink(image: RgbImage): Promise<{ small: RgbImage; scale: number }> {
  const { width, height } = image;
  if (Math.max(width, height) <= detectionSide) {
    return { small: { width, height, data: Uint8Array.from(image.data) }, scale: 1 };
  }
  const { data, info } = await sharp(image.data, { raw: { width, height, channels: 3 } })
    .resize({ width: detectionSide, height: detectionSide, fit: 'inside' })
    .raw()
    .toBuffer({ resolveWithObject: true });
  // sharp's buffer may be a slice of a larger pool: copy, so that nothing else is transferred with it.
  return {
    small: { width: info.width, height: info.height, data: Uint8Array.from(data) },
    scale: width / info.width,
  };
}

function enlarge(face: Face, scale: number): Face {
  if (scale === 1) return face;
  const { x, y, width, height } = face.box;
  return {
    box: { x: x * scale, y: y * scale, width: width * scale, height: height * scale },
    landmarks: face.landmarks.map((point) => ({ x: point.x * scale, y: point.y * scale })),
    score: face.score,
  };
}

/** Alignment constants of dlib's face recognition network, as @vladmandic/face-api uses them. */
const relativeCentre = { x: 0.5, y: 0.43 };
const relativeEyeToMouth = 0.45;

/**
 * The square around a face as the recognition network was trained on it: its side is the distance from
 * eyes to mouth over 0.45, and the centre of eyes and mouth lies at (0.5, 0.43) of it. It may reach over
 * the border of the image.
 */
export function alignmentBox(face: Face): Box {
  const [left, right, mouth] = [
    centre(face.landmarks.slice(36, 42)),
    centre(face.landmarks.slice(42, 48)),
    centre(face.landmarks.slice(48, 68)),
  ];
  const toMouth = (eye: { x: number; y: number }) => Math.hypot(mouth.x - eye.x, mouth.y - eye.y);
  const side = Math.max(1, Math.floor((toMouth(left) + toMouth(right)) / 2 / relativeEyeToMouth));
  const reference = centre([left, right, mouth]);
  return {
    x: Math.floor(Math.max(0, reference.x - relativeCentre.x * side)),
    y: Math.floor(Math.max(0, reference.y - relativeCentre.y * side)),
    width: side,
    height: side,
  };
}

function centre(points: readonly { x: number; y: number }[]): { x: number; y: number } {
  const sum = points.reduce((total, { x, y }) => ({ x: total.x + x, y: total.y + y }), { x: 0, y: 0 });
  return { x: sum.x / points.length, y: sum.y / points.length };
}

/**
 * The part of the image that the aligned crop shows: the face's square, cut where the image ends.
 * @throws AppError IMAGE_UNREADABLE when the face lies outside the image
 */
export function alignmentRegion(image: RgbImage, face: Face): PixelRegion {
  const box = alignmentBox(face);
  const width = Math.min(box.width, image.width - box.x);
  const height = Math.min(box.height, image.height - box.y);
  if (width < 1 || height < 1) throw new AppError('IMAGE_UNREADABLE', 'The face lies outside the image.');
  return { left: box.x, top: box.y, width, height };
}

/**
 * The aligned crop of one face, `size` × `size`.
 * @throws AppError IMAGE_UNREADABLE when the face lies outside the image
 */
export const alignFace = (image: RgbImage, face: Face, size: number): Promise<RgbImage> =>
  fitToSquare(image, size, alignmentRegion(image, face));
