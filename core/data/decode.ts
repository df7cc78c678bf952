/** Picture files to plain RGB pixels: the only place where bytes from outside meet an image decoder. */
import sharp from 'sharp';
import { AppError } from '../shared/errors.ts';

/** Interleaved RGB, 8 bit, row by row: `data.length === width * height * 3`. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

export interface DecodeLimits {
  maxFileBytes: number;
  maxPixels: number;
}

/** A 64-megapixel camera picture decodes to 192 MB; more than that is taken for an attack or a mistake. */
export const defaultDecodeLimits: DecodeLimits = { maxFileBytes: 64 * 2 ** 20, maxPixels: 64_000_000 };

const formats: readonly string[] = ['jpeg', 'png'];

/**
 * Decodes a JPEG or PNG: EXIF rotation applied, metadata dropped, transparency laid on white, sRGB 8 bit.
 * @param name file name for messages, without its folder
 * @throws AppError IMAGE_TOO_LARGE over a limit, IMAGE_UNREADABLE for anything else that is not a whole JPEG or PNG
 */
export async function decodeImage(
  bytes: Uint8Array,
  name: string,
  limits: DecodeLimits = defaultDecodeLimits,
): Promise<RgbImage> {
  if (bytes.byteLength > limits.maxFileBytes) throw tooLargeFile(name, limits);
  await checkHeader(bytes, name, limits);
  try {
    const { data, info } = await sharp(bytes, { limitInputPixels: limits.maxPixels, failOn: 'error' })
      .autoOrient()
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data: toThreeChannels(data, info.channels) };
  } catch (error) {
    throw new AppError('IMAGE_UNREADABLE', `The picture "${name}" is damaged or cut short.`, {
      cause: error,
    });
  }
}

/** The error for a file over the limit; also for callers that look at the size before they read the file. */
export function tooLargeFile(name: string, limits: DecodeLimits = defaultDecodeLimits): AppError {
  const megabytes = Math.floor(limits.maxFileBytes / 2 ** 20);
  return new AppError('IMAGE_TOO_LARGE', `The picture "${name}" is a file of more than ${megabytes} MB.`);
}

// Reads the header alone: the pixel count is known before a single pixel is unpacked.
async function checkHeader(bytes: Uint8Array, name: string, limits: DecodeLimits): Promise<void> {
  let header: { format?: string; width?: number; height?: number };
  try {
    header = await sharp(bytes, { limitInputPixels: false }).metadata();
  } catch (error) {
    throw new AppError('IMAGE_UNREADABLE', `The file "${name}" is not a picture that Anneal can read.`, {
      cause: error,
    });
  }
  if (!formats.includes(header.format ?? '')) {
    throw new AppError(
      'IMAGE_UNREADABLE',
      `The picture "${name}" is neither JPEG nor PNG (it is ${header.format ?? 'of an unknown kind'}).`,
    );
  }
  const { width = 0, height = 0 } = header;
  if (width * height > limits.maxPixels) {
    throw new AppError(
      'IMAGE_TOO_LARGE',
      `The picture "${name}" has ${width} × ${height} pixels; at most ${Math.floor(limits.maxPixels / 1e6)} million are allowed.`,
    );
  }
}

function toThreeChannels(data: Uint8Array, channels: number): Uint8Array {
  if (channels === 3) return data;
  const pixels = data.length / channels;
  const rgb = new Uint8Array(pixels * 3);
  for (let pixel = 0; pixel < pixels; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      rgb[pixel * 3 + channel] = data[pixel * channels + (channels > 2 ? channel : 0)]!;
    }
  }
  return rgb;
}

/**
 * An RGB image as PNG bytes without metadata; the same pixels always give the same bytes. Not compressed: noise makes
 * crops only a little smaller, and both writing and reading them take twice the time then (docs/benchmarks.md).
 */
export async function encodePng(image: RgbImage): Promise<Uint8Array> {
  return sharp(image.data, { raw: { width: image.width, height: image.height, channels: 3 } })
    .png({ compressionLevel: 0 })
    .toBuffer();
}
