/** Face crops as pixels: decoded once, scaled to what the base model takes, kept in bounded memory. */
import { readFileSync } from 'node:fs';
import sharp, { type Sharp } from 'sharp';
import { decodeCrop } from '../data/crop-file.ts';
import { AppError } from '../shared/errors.ts';
import { sha256 as hashOf } from '../shared/hash.ts';

export interface CropCache {
  /**
   * RGB bytes [side, side, 3] of a crop.
   * @param sha256 of the file, held against it whenever it is read
   * @throws AppError IMAGE_UNREADABLE; BLOB_CORRUPT when the file is not there or not the one that has this hash
   */
  read(file: string, side: number, sha256?: string): Promise<Uint8Array>;
  readonly sizeBytes: number;
}

/** More than any crop has; a larger PNG is not unpacked. A tensor is no larger than its file. */
const maxPixels = 4096 * 4096;

/** Keeps decoded crops by file; the least recently used go first when `maxBytes` is passed. */
export function createCropCache(maxBytes: number): CropCache {
  const crops = new Map<string, Uint8Array>();
  let sizeBytes = 0;
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    async read(file, side, sha256) {
      const known = crops.get(file);
      if (known?.length === 3 * side * side) {
        crops.delete(file);
        crops.set(file, known);
        return known;
      }
      const crop = await readCrop(file, side, sha256);
      sizeBytes += crop.length - (crops.get(file)?.length ?? 0);
      crops.delete(file);
      crops.set(file, crop);
      for (const [oldest, bytes] of crops) {
        if (sizeBytes <= maxBytes || oldest === file) break;
        crops.delete(oldest);
        sizeBytes -= bytes.length;
      }
      return crop;
    },
  };
}

async function readCrop(file: string, side: number, sha256: string | undefined): Promise<Uint8Array> {
  try {
    const bytes = readWhole(file, sha256);
    const crop = await (isPng(bytes)
      ? scaled(sharp(bytes, { limitInputPixels: maxPixels }), side)
      : tensorCrop(bytes, side));
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

async function tensorCrop(bytes: Buffer, side: number): Promise<Uint8Array> {
  const { width, height, data } = decodeCrop(bytes, 'crop');
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
