/** What the header of a JPEG says of how it is coded: valid files that no decoder here reads are not "damaged". */

export interface JpegCoding {
  /** Number of the start-of-frame marker, 0 to 15 (ITU-T T.81, table B.1), or 55 for JPEG-LS. */
  process: number;
  /** Bits per sample. */
  precision: number;
  /** Whether a JFIF or an Adobe marker says what the components are. */
  namesColours: boolean;
}

const jpegLs = 0xf7;
const isFrameStart = (marker: number) =>
  marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;

/** @returns null when there is no whole frame header */
export function readJpegCoding(bytes: Uint8Array): JpegCoding | null {
  let at = 2;
  let namesColours = false;
  while (at + 4 <= bytes.length) {
    if (bytes[at] !== 0xff) return null;
    const marker = bytes[at + 1]!;
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    if (marker === 0xd9 || marker === 0xda) return null;
    if (isFrameStart(marker) || marker === jpegLs) {
      const precision = bytes[at + 4];
      return precision === undefined ? null : { process: marker - 0xc0, precision, namesColours };
    }
    if (marker === 0xe0 || marker === 0xee) namesColours = true;
    // Markers without a length: restarts and TEM.
    const isBare = marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);
    at += isBare ? 2 : 2 + ((bytes[at + 2]! << 8) | bytes[at + 3]!);
  }
  return null;
}

/** In words: what kind of JPEG this is, where it is one that Anneal does not read; otherwise null. */
export function unsupportedJpeg(bytes: Uint8Array): string | null {
  const coding = readJpegCoding(bytes);
  if (coding === null) return null;
  const { process, precision } = coding;
  if (process === jpegLs - 0xc0) return 'JPEG-LS';
  if (process === 3 || process === 7 || process === 11 || process === 15) return 'lossless JPEG';
  if (process === 5 || process === 6 || process === 13 || process === 14) return 'hierarchical JPEG';
  if (precision !== 8) return `${precision}-bit JPEG`;
  return null;
}

/** An Adobe marker that says "these components are red, green and blue", put in behind the start of the image. */
export function markAsRgb(jpeg: Uint8Array): Uint8Array {
  const marker = [0xff, 0xee, 0, 14, 0x41, 0x64, 0x6f, 0x62, 0x65, 0, 100, 0, 0, 0, 0, 0];
  return Buffer.concat([jpeg.subarray(0, 2), Buffer.from(marker), jpeg.subarray(2)]);
}
