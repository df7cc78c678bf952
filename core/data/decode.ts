/** Image files to plain RGB pixels: the only place where bytes from outside meet an image decoder. */
import sharp from 'sharp';
import { AppError } from '../shared/errors.ts';

/** Interleaved RGB, 8 bit, row by row: `data.length === width * height * 3`. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** In pixels, inside the image. */
export interface PixelRegion {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export interface DecodeLimits {
  maxFileBytes: number;
  maxPixels: number;
}

/** A 64-megapixel camera image decodes to 192 MB; more than that is taken for an attack or a mistake. */
export const defaultDecodeLimits: DecodeLimits = { maxFileBytes: 64 * 2 ** 20, maxPixels: 64_000_000 };

const formats: readonly string[] = ['jpeg', 'png'];
/** First bytes by which the image library, too, tells a file's format. */
const signatures = [
  [0xff, 0xd8, 0xff],
  [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a],
];

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
  if (!isJpegOrPng(bytes)) await explain(bytes, name, limits);
  try {
    const { data, info } = await sharp(bytes, { limitInputPixels: limits.maxPixels, failOn: 'error' })
      .autoOrient()
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data: toThreeChannels(data, info.channels) };
  } catch (error) {
    await explain(bytes, name, limits);
    throw new AppError('IMAGE_UNREADABLE', `The image "${name}" is damaged or cut short.`, {
      cause: error,
    });
  }
}

function isJpegOrPng(bytes: Uint8Array): boolean {
  return signatures.some((signature) => signature.every((byte, index) => bytes[index] === byte));
}

/** The error for a file over the limit; also for callers that look at the size before they read the file. */
export function tooLargeFile(name: string, limits: DecodeLimits = defaultDecodeLimits): AppError {
  const megabytes = Math.floor(limits.maxFileBytes / 2 ** 20);
  return new AppError('IMAGE_TOO_LARGE', `The image "${name}" is larger than ${megabytes} MB.`);
}

/** What the header alone says against an image; no pixel is unpacked. Only for images that are refused: it takes time. */
async function explain(bytes: Uint8Array, name: string, limits: DecodeLimits): Promise<void> {
  let header: { format?: string; width?: number; height?: number };
  try {
    header = await sharp(bytes, { limitInputPixels: false }).metadata();
  } catch (error) {
    throw new AppError('IMAGE_UNREADABLE', `The file "${name}" is not an image that Anneal can read.`, {
      cause: error,
    });
  }
  if (!formats.includes(header.format ?? '')) {
    throw new AppError(
      'IMAGE_UNREADABLE',
      `The image "${name}" is neither JPEG nor PNG (it is ${header.format ?? 'of an unknown format'}).`,
    );
  }
  const { width = 0, height = 0 } = header;
  if (width * height > limits.maxPixels) {
    throw new AppError(
      'IMAGE_TOO_LARGE',
      `The image "${name}" has ${width} × ${height} pixels; at most ${Math.floor(limits.maxPixels / 1e6)} million are allowed.`,
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
 * A whole image, or a region of it, scaled to `size` × `size`. What is not square gets black bars, as the recognition
 * network's own input does, so that no face is stretched or cut.
 */
export async function fitToSquare(image: RgbImage, size: number, region?: PixelRegion): Promise<RgbImage> {
  const { width, height, data } = image;
  if (region === undefined && width === size && height === size) return image;
  const whole = sharp(data, { raw: { width, height, channels: 3 } });
  const pixels = await (region === undefined ? whole : whole.extract(region))
    .resize({ width: size, height: size, fit: 'contain', background: '#000000' })
    .removeAlpha()
    .raw()
    .toBuffer();
  return { width: size, height: size, data: pixels };
}
