import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodeCrop, encodeCrop } from '../../core/data/crop-file.ts';
import { decodeImage, fitToSquare } from '../../core/data/decode.ts';
import { AppError } from '../../core/shared/errors.ts';

const red = [220, 20, 30] as const;
const blue = [20, 30, 220] as const;

/** Left half red, right half blue: 40 × 20. */
async function twoColours(): Promise<Buffer> {
  const pixels = Buffer.alloc(40 * 20 * 3);
  for (let at = 0; at < pixels.length; at += 3) {
    pixels.set((at / 3) % 40 < 20 ? red : blue, at);
  }
  return pixels;
}
const raw = { width: 40, height: 20, channels: 3 } as const;

function colourAt(image: { width: number; data: Uint8Array }, x: number, y: number): number[] {
  const at = (y * image.width + x) * 3;
  return [...image.data.subarray(at, at + 3)];
}
const near = (colour: number[], other: readonly number[]) =>
  colour.every((value, index) => Math.abs(value - other[index]!) < 12);

async function errorOf(work: Promise<unknown>): Promise<AppError> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(AppError);
  return error as AppError;
}

describe('decodeImage', () => {
  test('applies the EXIF rotation', async () => {
    // Orientation 6: the camera was turned, the image must be rotated by 90° clockwise.
    const jpeg = await sharp(await twoColours(), { raw })
      .withMetadata({ orientation: 6 })
      .jpeg({ quality: 95 })
      .toBuffer();

    const image = await decodeImage(jpeg, 'turned.jpg');

    expect([image.width, image.height]).toEqual([20, 40]);
    expect(near(colourAt(image, 10, 3), red)).toBe(true);
    expect(near(colourAt(image, 10, 36), blue)).toBe(true);
  });

  test('gives three channels of 8 bit for grey, 16-bit, palette and CMYK images', async () => {
    const pixels = await twoColours();
    const variants: [string, Buffer][] = [
      ['grey', await sharp(pixels, { raw }).greyscale().png().toBuffer()],
      ['grey jpeg', await sharp(pixels, { raw }).greyscale().jpeg().toBuffer()],
      ['16 bit', await sharp(pixels, { raw }).toColourspace('rgb16').png().toBuffer()],
      ['palette', await sharp(pixels, { raw }).png({ palette: true }).toBuffer()],
      ['cmyk', await sharp(pixels, { raw }).toColourspace('cmyk').jpeg().toBuffer()],
    ];
    for (const [name, bytes] of variants) {
      const image = await decodeImage(bytes, name);
      expect(image.data.length, name).toBe(40 * 20 * 3);
      const [r, , b] = colourAt(image, 5, 5) as [number, number, number];
      if (name.startsWith('grey')) expect(Math.abs(r - b), name).toBeLessThan(2);
      else expect(r - b, name).toBeGreaterThan(80);
    }
  });

  test('lays transparency on white', async () => {
    const png = await sharp({ create: { width: 4, height: 4, channels: 4, background: '#ff000000' } })
      .png()
      .toBuffer();
    expect(colourAt(await decodeImage(png, 'a.png'), 1, 1)).toEqual([255, 255, 255]);
  });

  test('drops metadata: crops carry none of it', async () => {
    const jpeg = await sharp(await twoColours(), { raw })
      .withExif({ IFD0: { Artist: 'Somebody Known' } })
      .jpeg()
      .toBuffer();
    expect(jpeg.includes('Somebody Known')).toBe(true);

    const square = await fitToSquare(await decodeImage(jpeg, 'a.jpg'), 40);
    const crop = encodeCrop(square);

    expect(Buffer.from(crop).includes('Somebody')).toBe(false);
    // Nothing but the pixels and a header of their shape.
    expect(crop.length - square.data.length).toBeLessThan(120);
    expect(decodeCrop(crop, 'crop')).toEqual({
      image: { width: 40, height: 40, data: new Uint8Array(square.data) },
      face: null,
    });
  });
});

describe('decodeImage refuses', () => {
  test('a decompression bomb, before it is unpacked', async () => {
    // 100 million pixels in a file of some 100 KB.
    const bomb = await sharp({ create: { width: 10_000, height: 10_000, channels: 3, background: '#000' } })
      .toColourspace('b-w')
      .png({ compressionLevel: 2 })
      .toBuffer();
    expect(bomb.length).toBeLessThan(2 ** 20);
    const before = process.memoryUsage().rss;

    const error = await errorOf(decodeImage(bomb, 'bomb.png'));

    expect(error.code).toBe('IMAGE_TOO_LARGE');
    expect(error.message).toContain('10000 × 10000');
    expect(process.memoryUsage().rss - before).toBeLessThan(60 * 2 ** 20);
  });

  test('a file over the size limit', async () => {
    const jpeg = await sharp(await twoColours(), { raw })
      .jpeg()
      .toBuffer();
    const error = await errorOf(decodeImage(jpeg, 'a.jpg', { maxFileBytes: 100, maxPixels: 1000 }));
    expect(error.code).toBe('IMAGE_TOO_LARGE');
  });

  test('images that are cut short, are no images, or are of another kind', async () => {
    const noise = Buffer.from(Array.from({ length: 60 * 60 * 3 }, (_, index) => (index * 7919) % 256));
    const whole = { raw: { width: 60, height: 60, channels: 3 } } as const;
    const jpeg = await sharp(noise, whole).jpeg().toBuffer();
    const png = await sharp(noise, whole).png().toBuffer();
    const cases: [string, Uint8Array][] = [
      ['cut.jpg', jpeg.subarray(0, jpeg.length / 2)],
      ['cut.png', png.subarray(0, png.length / 2)],
      ['text.jpg', Buffer.from('this is no image')],
      ['empty.jpg', new Uint8Array(0)],
      ['drawing.svg', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')],
    ];
    for (const [name, bytes] of cases) {
      const error = await errorOf(decodeImage(bytes, name));
      expect(error.code, name).toBe('IMAGE_UNREADABLE');
      expect(error.message).toContain(name);
    }
  });
});
