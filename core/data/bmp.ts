/**
 * Windows bitmaps: 1, 4 and 8 bits with a palette, 16, 24 and 32 bits, also with colour masks; either way up. Run-length
 * coding is refused. (Tried against Pillow, the readers on npm gave wrong colours for palettes, or read none.)
 * Format: Microsoft, "Bitmap Storage", BITMAPFILEHEADER and BITMAPINFOHEADER to BITMAPV5HEADER.
 */
import { checkSize, DamagedImage, type RawImage, UnsupportedImage } from './raw-image.ts';

const coreHeader = 12;
const bitFields = 3;
const alphaBitFields = 6;

interface BmpHeader {
  width: number;
  height: number;
  isTopDown: boolean;
  bits: number;
  /** Where the rows begin. */
  offset: number;
  /** Where the palette begins, how many colours it may have, and bytes of each. */
  palette: { start: number; most: number; bytesEach: number };
  masks: [red: number, green: number, blue: number];
}

function readHeader(view: DataView, maxPixels: number): BmpHeader {
  const size = view.getUint32(14, true);
  const isCore = size === coreHeader;
  if (!isCore && size < 40) throw new UnsupportedImage('a bitmap of OS/2');
  const width = isCore ? view.getUint16(18, true) : view.getInt32(18, true);
  const signedHeight = isCore ? view.getUint16(20, true) : view.getInt32(22, true);
  checkSize(width, Math.abs(signedHeight), maxPixels);
  const bits = view.getUint16(isCore ? 24 : 28, true);
  const compression = isCore ? 0 : view.getUint32(30, true);
  if (![0, bitFields, alphaBitFields].includes(compression))
    throw new UnsupportedImage('a bitmap (BMP) that is compressed');
  if (![1, 4, 8, 16, 24, 32].includes(bits)) throw new DamagedImage('bits per pixel');
  const hasMasks = compression !== 0 && (bits === 16 || bits === 32);
  // The masks lie at the same place, inside later headers and behind the first one.
  const masks: BmpHeader['masks'] = hasMasks
    ? [view.getUint32(54, true), view.getUint32(58, true), view.getUint32(62, true)]
    : bits === 16
      ? [0x7c00, 0x03e0, 0x001f]
      : [0xff0000, 0x00ff00, 0x0000ff];
  const used = isCore ? 0 : view.getUint32(46, true);
  return {
    ...{ width, height: Math.abs(signedHeight), isTopDown: signedHeight < 0, bits, masks },
    offset: view.getUint32(10, true),
    palette: {
      start: 14 + size,
      most: used > 0 ? Math.min(used, 256) : 2 ** Math.min(bits, 8),
      bytesEach: isCore ? 3 : 4,
    },
  };
}

/** A colour mask as the shift and the number that bring its bits to 0…255. */
function maskReader(mask: number): (word: number) => number {
  if (mask === 0) return () => 0;
  const shift = Math.log2(mask & (-mask >>> 0)) | 0;
  const most = mask >>> shift;
  return (word) => Math.round((((word & mask) >>> shift) * 255) / most);
}

/** Alpha is left out: most programs write nothing true there. @throws DamagedImage | UnsupportedImage | TooManyPixels */
export function decodeBmp(bytes: Uint8Array, maxPixels: number): RawImage {
  if (bytes.length < 70) throw new DamagedImage('cut short');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { width, height, isTopDown, bits, offset, palette, masks } = readHeader(view, maxPixels);
  const rowBytes = Math.ceil((width * bits) / 32) * 4;
  // The last row may lack its padding.
  if (bytes.length < offset + rowBytes * (height - 1) + Math.ceil((width * bits) / 8))
    throw new DamagedImage('cut short');
  const samples = new Uint8Array(width * height * 3);
  const [red, green, blue] = masks.map(maskReader) as [
    ReturnType<typeof maskReader>,
    ReturnType<typeof maskReader>,
    ReturnType<typeof maskReader>,
  ];
  for (let y = 0; y < height; y++) {
    const row = offset + rowBytes * (isTopDown ? y : height - 1 - y);
    for (let x = 0; x < width; x++) {
      const to = (y * width + x) * 3;
      if (bits === 24) {
        const from = row + x * 3;
        samples[to] = bytes[from + 2]!;
        samples[to + 1] = bytes[from + 1]!;
        samples[to + 2] = bytes[from]!;
      } else if (bits > 8) {
        const word = bits === 16 ? view.getUint16(row + x * 2, true) : view.getUint32(row + x * 4, true);
        samples[to] = red(word);
        samples[to + 1] = green(word);
        samples[to + 2] = blue(word);
      } else {
        const bit = x * bits;
        const index = (bytes[row + (bit >> 3)]! >> (8 - bits - (bit & 7))) & (2 ** bits - 1);
        const from = palette.start + index * palette.bytesEach;
        if (index >= palette.most || from + 3 > offset)
          throw new DamagedImage('a colour is not in the palette');
        samples[to] = bytes[from + 2]!;
        samples[to + 1] = bytes[from + 1]!;
        samples[to + 2] = bytes[from]!;
      }
    }
  }
  return { width, height, channels: 3, samples, white: 255 };
}
