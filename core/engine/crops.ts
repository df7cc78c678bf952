/** Stored faces as the pixels that a base model takes: read and cut out once, kept in bounded memory. */
import { readFileSync } from 'node:fs';
import sharp, { type Sharp } from 'sharp';
import type { Alignment } from '../config/alignment.ts';
import { decodeCrop } from '../data/crop-file.ts';
import { alignRegion } from '../data/face-region.ts';
import type { BaseModel } from '../models/base-model.ts';
import { AppError } from '../shared/errors.ts';
import { sha256 as hashOf } from '../shared/hash.ts';

/** The square that a base model takes. */
export interface CropShape {
  /** In pixels. */
  readonly side: number;
  readonly alignment: Alignment;
}

export const cropShapeOf = ({
  inputSize,
  alignment,
}: Pick<BaseModel, 'inputSize' | 'alignment'>): CropShape => ({
  side: inputSize,
  alignment,
});

export interface CropCache {
  /**
   * RGB bytes [side, side, 3] of a face.
   * @param sha256 of the file, held against it whenever it is read
   * @throws AppError IMAGE_UNREADABLE; BLOB_CORRUPT when the file is not there or not the one that has this hash
   */
  read(file: string, shape: CropShape, sha256?: string): Promise<Uint8Array>;
  readonly sizeBytes: number;
}

/** More than any crop has; a larger PNG is not unpacked. A tensor is no larger than its file. */
const maxPixels = 4096 * 4096;

/** Keeps squares by file; the least recently used go first when `maxBytes` is passed. */
export function createCropCache(maxBytes: number): CropCache {
  /** A file is kept in the shape that was asked for last. */
  const crops = new Map<string, { key: string; square: Uint8Array }>();
  let sizeBytes = 0;
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    async read(file, shape, sha256) {
      const key = `${shape.alignment} ${shape.side}`;
      const known = crops.get(file);
      if (known?.key === key) {
        crops.delete(file);
        crops.set(file, known);
        return known.square;
      }
      const square = await readCrop(file, shape, sha256);
      sizeBytes += square.length - (crops.get(file)?.square.length ?? 0);
      crops.delete(file);
      crops.set(file, { key, square });
      for (const [oldest, { square: bytes }] of crops) {
        if (sizeBytes <= maxBytes || oldest === file) break;
        crops.delete(oldest);
        sizeBytes -= bytes.length;
      }
      return square;
    },
  };
}

async function readCrop(file: string, shape: CropShape, sha256: string | undefined): Promise<Uint8Array> {
  const { side } = shape;
  try {
    const bytes = readWhole(file, sha256);
    const crop = await (isPng(bytes)
      ? scaled(sharp(bytes, { limitInputPixels: maxPixels }), side)
      : squareOf(bytes, shape));
    if (crop.length !== 3 * side * side) throw new Error(`decoded to ${crop.length} bytes`);
    return crop;
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'BLOB_CORRUPT') throw cause;
    throw new AppError('IMAGE_UNREADABLE', 'A face crop of this dataset cannot be read.', {
      action: 'Import the images again.',
      cause,
    });
  }
}

/** @throws AppError BLOB_CORRUPT; the system's error when no hash is given */
function readWhole(file: string, sha256: string | undefined): Buffer {
  try {
    // This thread has nothing else to do, and a file at once costs a fifth of one in steps.
    const bytes = readFileSync(file);
    if (sha256 === undefined || hashOf(bytes) === sha256) return bytes;
  } catch (cause) {
    if (sha256 === undefined) throw cause;
  }
  throw new AppError('BLOB_CORRUPT', 'A face crop on this disk is damaged or missing.');
}

/** As crops were stored before they became tensors (docs/decisions/0006). */
const isPng = (bytes: Buffer) => bytes.readUInt32BE(0) === 0x89504e47;

async function squareOf(bytes: Buffer, { side, alignment }: CropShape): Promise<Uint8Array> {
  const { image, face } = decodeCrop(bytes, 'crop');
  const { width, height, data } = image;
  if (face !== null) return alignRegion({ image, ...face }, alignment, side);
  if (width === side && height === side) return data;
  return scaled(sharp(data, { raw: { width, height, channels: 3 } }), side);
}

/**
 * A crop of another size than the model takes is scaled with a Lanczos kernel (a = 3); one that is not square
 * loses what its longer sides have too much.
 */
function scaled(crop: Sharp, side: number): Promise<Uint8Array> {
  return crop
    .resize(side, side, { kernel: 'lanczos3', fit: 'cover', fastShrinkOnLoad: false })
    .toColourspace('srgb')
    .removeAlpha()
    .raw({ depth: 'uchar' })
    .toBuffer();
}
