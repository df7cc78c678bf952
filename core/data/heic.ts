/**
 * HEIC, the format of phones: HEVC inside HEIF. libheif (LGPL-3.0, compiled to WebAssembly) reads it; the package is
 * optional, and nothing else of Anneal needs it. libheif applies the turns and mirrors of the container itself, so that
 * the EXIF orientation, which says the same once more, is not looked at.
 */
import { optionalPackage } from './optional-package.ts';
import { checkSize, DamagedImage, type RawImage, type ReadingNotes } from './raw-image.ts';

interface HeicPictures
  extends Array<{ width: number; height: number; decode(): Promise<{ data: Uint8ClampedArray }> }> {
  dispose(): void;
}

/** @throws DamagedImage | UnsupportedImage | TooManyPixels */
export async function decodeHeic(
  bytes: Uint8Array,
  maxPixels: number,
): Promise<{ image: RawImage; notes: ReadingNotes }> {
  const library = optionalPackage<{ all(input: { buffer: Uint8Array }): Promise<HeicPictures> }>(
    'heic-decode',
    'a HEIC photograph',
  );
  const pictures = await library.all({ buffer: asKnownBrand(bytes) });
  try {
    const [first] = pictures;
    if (first === undefined) throw new DamagedImage('no image inside');
    const { width, height } = first;
    checkSize(width, height, maxPixels);
    const { data } = await first.decode();
    if (data.length < width * height * 4) throw new DamagedImage('cut short');
    const samples = new Uint8Array(width * height * 3);
    for (let pixel = 0; pixel < width * height; pixel++) {
      const alpha = data[pixel * 4 + 3]!;
      for (let channel = 0; channel < 3; channel++)
        samples[pixel * 3 + channel] = Math.round(
          (data[pixel * 4 + channel]! * alpha + 255 * (255 - alpha)) / 255,
        );
    }
    const notes = pictures.length > 1 ? [`first of ${pictures.length} images`] : [];
    return { image: { width, height, channels: 3, samples, white: 255 }, notes };
  } finally {
    pictures.dispose();
  }
}

/** The package knows some of the brands that HEIC files begin with; libheif itself reads the others too. */
function asKnownBrand(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy.set([0x6d, 0x69, 0x66, 0x31], 8); // "mif1"
  return copy;
}
