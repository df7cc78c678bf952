/** What a file is, by its bytes: names and their endings say nothing certain. */
import { fileTypeFromBuffer } from 'file-type';
import type { ForeignFormat } from './image-protocol.ts';
import { unsupportedJpeg } from './jpeg-header.ts';

/** Read by the image library. */
export type LibraryFormat = 'jpeg' | 'png' | 'webp' | 'tiff' | 'avif';
export type ImageFormat = LibraryFormat | ForeignFormat;

/** Why a file is refused by its first bytes. `words` go on from 'The file "x" …'. */
export interface RefusedFormat {
  isImage: boolean;
  words: string;
}

const heicBrands = new Set(['heic', 'heix', 'heim', 'heis', 'hevc', 'hevx', 'hevm', 'hevs', 'mif1', 'msf1']);
const longNames: Readonly<Record<string, string>> = {
  jxl: 'JPEG XL',
  jp2: 'JPEG 2000',
  jpx: 'JPEG 2000',
  jpm: 'JPEG 2000',
  j2c: 'JPEG 2000',
  psd: 'Photoshop',
  ico: 'Windows icon',
};
const cameraRaw = new Set(['cr2', 'cr3', 'nef', 'arw', 'dng', 'raf', 'rw2', 'orf']);

const startsWith = (bytes: Uint8Array, ...signature: number[]) =>
  signature.every((byte, index) => bytes[index] === byte);
const text = (bytes: Uint8Array, from: number, to: number) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1', from, to);

/** @returns the format, or why the file is none that Anneal reads */
export async function formatOf(bytes: Uint8Array): Promise<ImageFormat | RefusedFormat> {
  if (bytes.length === 0) return { isImage: false, words: 'is empty (0 bytes)' };
  if (startsWith(bytes, 0xff, 0xd8, 0xff)) return jpegFormat(bytes);
  if (startsWith(bytes, 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) return 'png';
  if (text(bytes, 0, 4) === 'RIFF' && text(bytes, 8, 12) === 'WEBP') return 'webp';
  if (text(bytes, 0, 2) === 'BM' && bytes.length > 26) return 'bmp';
  if (/^P[1-7]\s/.test(text(bytes, 0, 3))) return 'pnm';
  if (text(bytes, 128, 132) === 'DICM') return 'dicom';
  if (text(bytes, 4, 8) === 'ftyp') {
    const brands = brandsOf(bytes);
    if (brands.includes('avif') || brands.includes('avis')) return 'avif';
    if (brands.some((brand) => heicBrands.has(brand))) return 'heic';
  }
  return nameOther(bytes);
}

function jpegFormat(bytes: Uint8Array): 'jpeg' | RefusedFormat {
  const kind = unsupportedJpeg(bytes);
  return kind === null ? 'jpeg' : { isImage: true, words: `is a ${kind}, which Anneal does not read` };
}

/** Major brand and compatible brands of the first box (ISO/IEC 14496-12, 4.3). */
function brandsOf(bytes: Uint8Array): string[] {
  const end = Math.min((bytes[2]! << 8) | bytes[3]! || 16, bytes.length, 256);
  const brands = [text(bytes, 8, 12)];
  for (let at = 16; at + 4 <= end; at += 4) brands.push(text(bytes, at, at + 4));
  return brands;
}

async function nameOther(bytes: Uint8Array): Promise<'tiff' | RefusedFormat> {
  if (startsWith(bytes, 0x00, 0x05, 0x16, 0x07))
    return { isImage: false, words: 'is a companion file of macOS that holds no image' };
  const found = await fileTypeFromBuffer(bytes).catch(() => undefined);
  const isTiff = ['II*\0', 'MM\0*', 'II+\0', 'MM\0+'].includes(text(bytes, 0, 4));
  if (isTiff && (found === undefined || found.ext === 'tif')) return 'tiff';
  if (found === undefined) return { isImage: false, words: wordsOfText(bytes) };
  const { ext, mime } = found as { ext: string; mime: string };
  if (cameraRaw.has(ext))
    return {
      isImage: true,
      words: `is a camera raw file (${ext.toUpperCase()}), which Anneal does not read`,
    };
  if (mime.startsWith('image/'))
    return {
      isImage: true,
      words: `is a ${longNames[ext] ?? ext.toUpperCase()} image, which Anneal does not read`,
    };
  if (mime.startsWith('video/')) return { isImage: false, words: 'is a video, not an image' };
  if (ext === 'pdf') return { isImage: false, words: 'is a PDF document, not an image' };
  if (ext === 'cfb')
    return { isImage: false, words: 'is a file of Windows or Office (such as Thumbs.db), not an image' };
  return { isImage: false, words: `is not an image but of another kind (${ext})` };
}

function wordsOfText(bytes: Uint8Array): string {
  const start = bytes.subarray(0, 4096);
  if (start.includes(0)) return 'is not an image that Anneal can read';
  const words = text(start, 0, start.length).toLowerCase();
  if (words.includes('<svg')) return 'is a drawing (SVG), not a photograph';
  if (words.includes('<html') || words.includes('<!doctype html')) return 'is a web page, not an image';
  return 'is not an image that Anneal can read';
}
