/** Portable anymaps (PGM and PPM, plain and binary; netpbm's pgm(5) and ppm(5)): no library on npm reads all four. */
import { checkSize, DamagedImage, type RawImage, UnsupportedImage } from './raw-image.ts';

const isSpace = (byte: number | undefined) =>
  byte === 0x20 || (byte !== undefined && byte >= 9 && byte <= 13);

/** Reads the numbers of the header and of plain files; comments run from # to the end of the line. */
function numberReader(bytes: Uint8Array, start: number) {
  let at = start;
  return {
    get position() {
      return at;
    },
    next(): number {
      while (isSpace(bytes[at]) || bytes[at] === 0x23) {
        if (bytes[at] === 0x23) while (at < bytes.length && bytes[at] !== 0x0a && bytes[at] !== 0x0d) at += 1;
        else at += 1;
      }
      const begin = at;
      let value = 0;
      while (bytes[at]! >= 0x30 && bytes[at]! <= 0x39) {
        value = Math.min(value * 10 + bytes[at]! - 0x30, 2 ** 31);
        at += 1;
      }
      if (at === begin) throw new DamagedImage('a number is missing');
      return value;
    },
  };
}

/** @throws DamagedImage | UnsupportedImage | TooManyPixels */
export function decodePnm(bytes: Uint8Array, maxPixels: number): RawImage {
  const kind = bytes[1]! - 0x30;
  if (kind === 1 || kind === 4) throw new UnsupportedImage('a black-and-white bitmap (PBM)');
  if (![2, 3, 5, 6].includes(kind)) throw new UnsupportedImage('an anymap of a kind that is not PGM or PPM');
  const reader = numberReader(bytes, 2);
  const [width, height, white] = [reader.next(), reader.next(), reader.next()];
  if (white < 1 || white > 65535) throw new DamagedImage('the largest value is out of range');
  checkSize(width, height, maxPixels);
  const channels = kind === 3 || kind === 6 ? 3 : 1;
  const count = width * height * channels;
  const isPlain = kind < 4;
  // Each value of a plain file takes a digit and a space at least: no memory for what cannot be there.
  const bytesEach = white > 255 ? 2 : 1;
  const begin = reader.position + 1;
  if (bytes.length < begin + (isPlain ? count : count * bytesEach)) throw new DamagedImage('cut short');
  const samples = white > 255 ? new Uint16Array(count) : new Uint8Array(count);
  if (isPlain) {
    for (let index = 0; index < count; index++) samples[index] = Math.min(reader.next(), white);
  } else if (bytesEach === 1) {
    samples.set(bytes.subarray(begin, begin + count));
  } else {
    for (let index = 0; index < count; index++)
      samples[index] = (bytes[begin + index * 2]! << 8) | bytes[begin + index * 2 + 1]!;
  }
  return { width, height, channels, samples, white };
}
