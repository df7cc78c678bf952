/** Image files to plain RGB pixels: the only place where bytes from outside meet an image decoder. */
import { crc32, deflateSync } from 'node:zlib';
import sharp, { type Metadata } from 'sharp';
import { AppError } from '../shared/errors.ts';
import { readForeignImage } from './foreign-image.ts';
import { formatOf, type LibraryFormat } from './image-format.ts';
import { type ForeignFormat, foreignFormats, type ImageReply, type Refusal } from './image-protocol.ts';
import { quarterTurns, uprightImage, xmpOrientation } from './orientation.ts';
import type { RgbImage } from './rgb-image.ts';

export interface DecodedImage extends RgbImage {
  /** What a person should know of how it was read: "first of 3 pages", "scaled up from 12 bits". */
  readonly notes: readonly string[];
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

/**
 * Decodes an image file: upright by EXIF, XMP or what the container says, by its colour profile, metadata dropped,
 * transparency laid on white, sRGB 8 bit. Formats: docs/images.md.
 * @param name file name for messages, without its folder
 * @throws AppError IMAGE_TOO_LARGE over a limit, IMAGE_UNSUPPORTED for an image of a kind that Anneal does not read,
 *   IMAGE_UNREADABLE for anything else that is not a whole image
 */
export async function decodeImage(
  bytes: Uint8Array,
  name: string,
  limits: DecodeLimits = defaultDecodeLimits,
): Promise<DecodedImage> {
  if (bytes.byteLength > limits.maxFileBytes) throw tooLargeFile(name, limits);
  const format = await formatOf(bytes);
  if (typeof format !== 'string') {
    const code = format.isImage ? 'IMAGE_UNSUPPORTED' : 'IMAGE_UNREADABLE';
    throw new AppError(code, `The file "${name}" ${format.words}.`);
  }
  return isForeign(format)
    ? await decodeForeign(bytes, name, format, limits)
    : await decodeByLibrary(bytes, name, format, limits);
}

const isForeign = (format: string): format is ForeignFormat =>
  (foreignFormats as readonly string[]).includes(format);

/** The error for a file over the limit; also for callers that look at the size before they read the file. */
export function tooLargeFile(name: string, limits: DecodeLimits = defaultDecodeLimits): AppError {
  const megabytes = Math.floor(limits.maxFileBytes / 2 ** 20);
  return new AppError('IMAGE_TOO_LARGE', `The image "${name}" is larger than ${megabytes} MB.`);
}

function tooManyPixels(name: string, width: number, height: number, limits: DecodeLimits): AppError {
  return new AppError(
    'IMAGE_TOO_LARGE',
    `The image "${name}" has ${width} × ${height} pixels; at most ${Math.floor(limits.maxPixels / 1e6)} million are allowed.`,
  );
}

const damaged = (name: string, cause: unknown) =>
  new AppError('IMAGE_UNREADABLE', `The image "${name}" is damaged or cut short.`, { cause });

/** What the image library says of a file without unpacking its pixels. */
type Header = Metadata;

async function readHeader(bytes: Uint8Array, name: string, limits: DecodeLimits): Promise<Header> {
  const header = await sharp(bytes, { limitInputPixels: false })
    .metadata()
    .catch((error: unknown) => {
      throw damaged(name, error);
    });
  const { width, height } = header;
  if (width * height > limits.maxPixels) throw tooManyPixels(name, width, height, limits);
  return header;
}

async function decodeByLibrary(
  bytes: Uint8Array,
  name: string,
  format: LibraryFormat,
  limits: DecodeLimits,
): Promise<DecodedImage> {
  const notes: string[] = [];
  // The header of the commonest files is only asked for when something depends on it: it takes time.
  const mayHavePages = format !== 'jpeg' && format !== 'png';
  const isDeep = format === 'png' && bytes[pngDepthAt] === 16;
  const hasXmp =
    format !== 'tiff' &&
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).includes('tiff:Orientation');
  const header = mayHavePages || isDeep || hasXmp ? await readHeader(bytes, name, limits) : null;
  const pages = header?.pages ?? 1;
  if (pages > 1) notes.push(`first of ${pages} ${format === 'tiff' ? 'pages' : 'images'}`);
  if (format === 'tiff') checkTiff(header!, name);
  const orientation = header?.orientation === undefined ? xmpOrientation(xmpOf(header)) : null;
  try {
    let image = sharp(bytes, { limitInputPixels: limits.maxPixels, failOn: 'error' })
      .autoOrient()
      .flatten({ background: '#ffffff' });
    const bits = header?.depth === 'ushort' && format !== 'avif' ? await usedBits(bytes, header, limits) : 16;
    if (bits < 16) {
      // All channels alike, so that colours keep their proportions.
      image = image.linear(65535 / (2 ** bits - 1), 0);
      notes.push(`scaled up from ${bits} bits`);
    }
    const { data, info } = await image
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const { width, height, channels } = info;
    const upright = uprightImage({ width, height, data: toThreeChannels(data, channels) }, orientation ?? 1);
    return { ...upright, notes };
  } catch (error) {
    // A header over the limit is the other thing that the library refuses.
    await readHeader(bytes, name, limits);
    throw damaged(name, error);
  }
}

/** Bit depth in the header chunk of a PNG. */
const pngDepthAt = 24;
const xmpOf = (header: Header | null) => header?.xmp?.toString('utf8') ?? '';

/** Depths that measure something else than brightness have no one way of being shown. */
function checkTiff({ depth }: Header, name: string): void {
  if (depth === 'uchar' || depth === 'ushort') return;
  throw new AppError(
    'IMAGE_UNSUPPORTED',
    `The image "${name}" is a TIFF with samples of type ${depth}, which Anneal does not read.`,
  );
}

/** Of sensors and converters whose values turn up unscaled in 16-bit files. */
const sensorBits = [8, 10, 12, 14];

/**
 * Such files look dark or black, and nothing in them says why. But a picture whose brightest sample leaves two bits or
 * more unused uses at most a quarter of the range: the sensor had no more bits, or it is far too dark as it is.
 */
async function usedBits(bytes: Uint8Array, header: Header, limits: DecodeLimits): Promise<number> {
  const { channels } = await sharp(bytes, { limitInputPixels: limits.maxPixels, failOn: 'error' }).stats();
  const colours = header.hasAlpha ? channels.slice(0, -1) : channels;
  const brightest = Math.max(...colours.map(({ max }) => max));
  return sensorBits.find((bits) => brightest < 2 ** bits) ?? 16;
}

async function decodeForeign(
  bytes: Uint8Array,
  name: string,
  format: ForeignFormat,
  limits: DecodeLimits,
): Promise<DecodedImage> {
  const reply = await readForeignImage(format, bytes, limits.maxPixels);
  if (reply.type === 'timed-out')
    throw new AppError('IMAGE_UNREADABLE', `Reading the image "${name}" took too long, so it was given up.`);
  if (reply.type === 'ended') throw damaged(name, new Error('the reader ended'));
  if (reply.type === 'refused') throw refused(name, reply.refusal, limits);
  const icc = format === 'heic' ? await heicProfile(bytes) : reply.icc;
  const image = await unpack(reply, icc, name, limits);
  return { ...uprightImage(image, quarterTurns[reply.turn]), notes: [...reply.notes, ...image.notes] };
}

function refused(name: string, refusal: Refusal, limits: DecodeLimits): AppError {
  if (refusal.kind === 'damaged') return damaged(name, new Error('the reader refused'));
  if (refusal.kind === 'too-many-pixels') return tooManyPixels(name, refusal.width, refusal.height, limits);
  const { what, action } = refusal;
  return new AppError(
    'IMAGE_UNSUPPORTED',
    `The file "${name}" is ${what}.`,
    action === undefined ? {} : { action },
  );
}

async function unpack(
  reply: Extract<ImageReply, { type: 'pixels' | 'jpeg' }>,
  icc: Uint8Array | null,
  name: string,
  limits: DecodeLimits,
): Promise<DecodedImage> {
  if (reply.type === 'jpeg') {
    const format = await formatOf(reply.bytes);
    if (format !== 'jpeg') {
      const words =
        typeof format === 'string' ? 'holds something else than it says' : `holds what ${format.words}`;
      throw new AppError('IMAGE_UNSUPPORTED', `The file "${name}" ${words}.`);
    }
    return decodeByLibrary(reply.bytes, name, 'jpeg', limits);
  }
  const { width, height, data } = reply;
  if (icc === null) return { width, height, data, notes: [] };
  return decodeByLibrary(await pngWithProfile({ width, height, data }, icc), name, 'png', limits);
}

/** Phones write Display P3; the image library reads the container, though not the pixels. */
async function heicProfile(bytes: Uint8Array): Promise<Uint8Array | null> {
  const header = await sharp(bytes, { limitInputPixels: false })
    .metadata()
    .catch(() => null);
  return header?.icc ?? null;
}

/** Pixels with their colour profile, in a form that the image library converts. Chunk iCCP: PNG specification, 11.3.2.3. */
async function pngWithProfile({ width, height, data }: RgbImage, icc: Uint8Array): Promise<Uint8Array> {
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 0 })
    .toBuffer();
  const body = Buffer.concat([Buffer.from('iCCPicc\0\0', 'latin1'), deflateSync(icc)]);
  const chunk = Buffer.alloc(body.length + 8);
  chunk.writeUInt32BE(body.length - 4, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), body.length + 4);
  // Behind the signature and the header chunk.
  return Buffer.concat([png.subarray(0, 33), chunk, png.subarray(33)]);
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
