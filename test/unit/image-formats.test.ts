/** Every format that is read, against pixels that are known, and what is said of the others. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodeImage } from '../../core/data/decode.ts';
import { readForeignImage } from '../../core/data/foreign-image.ts';
import { uprightImage } from '../../core/data/orientation.ts';
import { AppError } from '../../core/shared/errors.ts';
import { createRandom } from '../../core/shared/random.ts';
import { type DicomFields, dicomFile } from '../fixtures/dicom-file.ts';

const width = 37;
const height = 21;
const random = createRandom(5);
/** Noise: nothing that is swapped, mirrored or shifted looks the same. */
const rgb = Uint8Array.from({ length: width * height * 3 }, () => random.integer(256));
const grey = Uint8Array.from({ length: width * height }, (_, index) => rgb[index * 3]!);
const asRgb = (values: ArrayLike<number>) =>
  Uint8Array.from({ length: values.length * 3 }, (_, index) => values[Math.floor(index / 3)]!);
const picture = () => sharp(rgb, { raw: { width, height, channels: 3 } });

const bigEndian = (values: ArrayLike<number>) => {
  const bytes = Buffer.alloc(values.length * 2);
  for (let index = 0; index < values.length; index++) bytes.writeUInt16BE(values[index]!, index * 2);
  return bytes;
};
const littleEndian = (values: ArrayLike<number>) => bigEndian(values).swap16();
const times = (values: Uint8Array, factor: number) => Uint16Array.from(values, (value) => value * factor);

function bmp(
  bits: number,
  rows: Uint8Array,
  more: { palette?: Uint8Array; masks?: number[]; isTopDown?: boolean } = {},
) {
  const { palette = new Uint8Array(), masks } = more;
  const head = Buffer.alloc(54);
  const extra = masks
    ? Buffer.concat(masks.map((mask) => littleEndian([mask & 0xffff, mask >>> 16])))
    : Buffer.from(palette);
  head.write('BM');
  head.writeUInt32LE(54 + extra.length, 10);
  head.writeUInt32LE(40, 14);
  head.writeInt32LE(width, 18);
  head.writeInt32LE(more.isTopDown ? -height : height, 22);
  head.writeUInt16LE(1, 26);
  head.writeUInt16LE(bits, 28);
  head.writeUInt32LE(masks ? 3 : 0, 30);
  head.writeUInt32LE(palette.length / 4, 46);
  return Buffer.concat([head, extra, rows]);
}
/** Rows padded to four bytes, the last one first unless told. */
function bmpRows(rowOf: (y: number) => Uint8Array, isTopDown = false): Buffer {
  const rows = Array.from({ length: height }, (_, y) => {
    const row = rowOf(isTopDown ? y : height - 1 - y);
    return Buffer.concat([row, Buffer.alloc((4 - (row.length % 4)) % 4)]);
  });
  return Buffer.concat(rows);
}
const bgrRow = (y: number) =>
  Uint8Array.from(
    { length: width * 3 },
    (_, index) => rgb[(y * width + Math.floor(index / 3)) * 3 + 2 - (index % 3)]!,
  );
const wordRow = (y: number, word: (r: number, g: number, b: number) => number, bytes: 2 | 4) => {
  const row = Buffer.alloc(width * bytes);
  for (let x = 0; x < width; x++) {
    const [r, g, b] = rgb.subarray((y * width + x) * 3);
    row.writeUIntLE(word(r!, g!, b!) >>> 0, x * bytes, bytes);
  }
  return row;
};
const greyPalette = Uint8Array.from({ length: 1024 }, (_, index) => (index % 4 === 3 ? 0 : index >> 2));

const dicom = (fields: Partial<DicomFields>) =>
  dicomFile({ photometric: 'RGB', width, height, pixels: rgb, ...fields });
const planes = Uint8Array.from({ length: rgb.length }, (_, index) => {
  const plane = width * height;
  return rgb[(index % plane) * 3 + Math.floor(index / plane)]!;
});
const orientedXmp = (orientation: number) =>
  `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="${orientation}"/></rdf:RDF></x:xmpmeta>`;

type Case = [
  name: string,
  bytes: () => Promise<Uint8Array> | Uint8Array,
  pixels: () => Uint8Array,
  within?: number,
  notes?: string[],
];
const exact: Case[] = [
  ['WebP', () => picture().webp({ lossless: true }).toBuffer(), () => rgb],
  ['TIFF', () => picture().tiff({ compression: 'lzw' }).toBuffer(), () => rgb],
  [
    'PPM',
    () => Buffer.concat([Buffer.from(`P6\n# from a camera\n${width} ${height}\n255\n`), rgb]),
    () => rgb,
  ],
  ['plain PPM', () => Buffer.from(`P3 ${width} ${height} 255\n${[...rgb].join('\n')}`), () => rgb],
  ['PGM', () => Buffer.concat([Buffer.from(`P5 ${width} ${height} 255\n`), grey]), () => asRgb(grey)],
  ['plain PGM', () => Buffer.from(`P2\n${width} ${height}\n255\n${[...grey].join(' ')}`), () => asRgb(grey)],
  [
    '16-bit PGM',
    () => Buffer.concat([Buffer.from(`P5 ${width} ${height} 65535\n`), bigEndian(times(grey, 257))]),
    () => asRgb(grey),
  ],
  [
    '12-bit PGM',
    () => Buffer.concat([Buffer.from(`P5 ${width} ${height} 4080\n`), bigEndian(times(grey, 16))]),
    () => asRgb(grey),
  ],
  ['24-bit BMP', () => bmp(24, bmpRows(bgrRow)), () => rgb],
  ['BMP from top to bottom', () => bmp(24, bmpRows(bgrRow, true), { isTopDown: true }), () => rgb],
  [
    '32-bit BMP',
    () =>
      bmp(
        32,
        bmpRows((y) => wordRow(y, (r, g, b) => (r << 16) | (g << 8) | b, 4)),
      ),
    () => rgb,
  ],
  [
    'BMP with colour masks',
    () =>
      bmp(
        32,
        bmpRows((y) => wordRow(y, (r, g, b) => (b << 24) | (g << 16) | (r << 8), 4)),
        { masks: [0xff00, 0xff0000, 0xff000000] },
      ),
    () => rgb,
  ],
  [
    '16-bit BMP',
    () =>
      bmp(
        16,
        bmpRows((y) => wordRow(y, (r, g, b) => ((r >> 3) << 10) | ((g >> 3) << 5) | (b >> 3), 2)),
      ),
    () => rgb,
    8,
  ],
  [
    'BMP with a palette',
    () =>
      bmp(
        8,
        bmpRows((y) => grey.subarray(y * width, (y + 1) * width)),
        { palette: greyPalette },
      ),
    () => asRgb(grey),
  ],
  ['DICOM', () => dicom({}), () => rgb],
  ['DICOM by planes', () => dicom({ planar: 1, pixels: planes }), () => rgb],
  [
    'DICOM, first of its frames',
    () =>
      dicom({
        frames: 2,
        pixels: Buffer.concat([rgb, grey, grey, grey]),
        sopClass: '1.2.840.10008.5.1.4.1.1.7.4',
      }),
    () => rgb,
    0,
    ['first of 2 frames'],
  ],
  [
    'DICOM, secondary capture, grey',
    () =>
      dicom({
        photometric: 'MONOCHROME2',
        pixels: grey,
        modality: 'OT',
        sopClass: '1.2.840.10008.5.1.4.1.1.7',
      }),
    () => asRgb(grey),
  ],
  [
    'DICOM, inverted',
    () => dicom({ photometric: 'MONOCHROME1', pixels: grey.map((value) => 255 - value) }),
    () => asRgb(grey),
  ],
  [
    'DICOM of 12 bits',
    () =>
      dicom({
        photometric: 'MONOCHROME2',
        bitsAllocated: 16,
        bitsStored: 12,
        pixels: littleEndian(times(grey, 16)),
      }),
    () => asRgb(grey),
    1,
  ],
  [
    'DICOM on its side',
    () => {
      const turned = uprightImage({ width, height, data: rgb }, 6);
      return dicom({ ...turned, pixels: turned.data, orientation: 'H\\L' });
    },
    () => rgb,
  ],
  [
    '12-bit values in a 16-bit PNG',
    () =>
      sharp(times(grey, 16), { raw: { width, height, channels: 1 } })
        .toColourspace('grey16')
        .png()
        .toBuffer(),
    () => asRgb(grey),
    1,
    ['scaled up from 12 bits'],
  ],
  [
    '8-bit values in a 16-bit TIFF',
    () =>
      sharp(times(grey, 1), { raw: { width, height, channels: 1 } })
        .toColourspace('grey16')
        .tiff({ compression: 'none' })
        .toBuffer(),
    () => asRgb(grey),
    1,
    ['scaled up from 8 bits'],
  ],
  [
    '16-bit PNG',
    () =>
      sharp(times(grey, 257), { raw: { width, height, channels: 1 } })
        .toColourspace('grey16')
        .png()
        .toBuffer(),
    () => asRgb(grey),
  ],
  [
    'XMP orientation alone',
    async () => {
      const turned = uprightImage({ width, height, data: rgb }, 8);
      return sharp(turned.data, { raw: { width: turned.width, height: turned.height, channels: 3 } })
        .withXmp(orientedXmp(6))
        .webp({ lossless: true })
        .toBuffer();
    },
    () => rgb,
  ],
];

describe('decodeImage gives the right pixels for', () => {
  test.each(exact)('%s', async (name, bytes, pixels, within = 0, notes = []) => {
    const image = await decodeImage(await bytes(), name);

    expect([image.width, image.height]).toEqual([width, height]);
    const expected = pixels();
    const worst = image.data.reduce(
      (most, value, index) => Math.max(most, Math.abs(value - expected[index]!)),
      0,
    );
    expect(worst).toBeLessThanOrEqual(within);
    expect(image.notes).toEqual(notes);
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'EXIF orientation %i, in every format that has one',
    async (orientation) => {
      const expected = uprightImage({ width, height, data: rgb }, orientation as 1);
      for (const write of [
        () => picture().withMetadata({ orientation }).png(),
        () => picture().withMetadata({ orientation }).webp({ lossless: true }),
        () => picture().withMetadata({ orientation }).tiff({ compression: 'none' }),
      ]) {
        const image = await decodeImage(await write().toBuffer(), 'a');
        expect([image.width, image.height]).toEqual([expected.width, expected.height]);
        // The colour profile that is written with it rounds.
        const differences = image.data.map((value, index) => Math.abs(value - expected.data[index]!));
        expect(Math.max(...differences)).toBeLessThanOrEqual(2);
      }
    },
  );
});

async function errorOf(work: Promise<unknown>): Promise<AppError> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(AppError);
  return error as AppError;
}

describe('decodeImage says truly why it refuses', () => {
  const refused: [string, string, Uint8Array | (() => Promise<Uint8Array>), RegExp][] = [
    ['nothing', 'IMAGE_UNREADABLE', new Uint8Array(), /is empty \(0 bytes\)/],
    ['a web page', 'IMAGE_UNREADABLE', Buffer.from('<!doctype html><title>Sign in</title>'), /is a web page/],
    [
      'a drawing',
      'IMAGE_UNREADABLE',
      Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'),
      /is a drawing \(SVG\)/,
    ],
    ['a document', 'IMAGE_UNREADABLE', Buffer.from('%PDF-1.7\n'), /is a PDF document/],
    [
      'a GIF',
      'IMAGE_UNSUPPORTED',
      () => picture().gif().toBuffer(),
      /is a GIF image, which Anneal does not read/,
    ],
    [
      'a floating-point TIFF',
      'IMAGE_UNSUPPORTED',
      () =>
        picture()
          .toColourspace('scrgb')
          .raw({ depth: 'float' })
          .toBuffer()
          .then((data) =>
            sharp(new Float32Array(data.buffer, data.byteOffset, data.length / 4), {
              raw: { width, height, channels: 3 },
            })
              .toColourspace('scrgb')
              .tiff({ compression: 'none' })
              .toBuffer(),
          ),
      /samples of type float/,
    ],
    [
      'CT',
      'IMAGE_UNSUPPORTED',
      dicom({ modality: 'CT', sopClass: '1.2.840.10008.5.1.4.1.1.2' }),
      /modality CT, not a photograph/,
    ],
    [
      'a CT that says it is a capture',
      'IMAGE_UNSUPPORTED',
      dicom({ modality: 'CT', sopClass: '1.2.840.10008.5.1.4.1.1.7' }),
      /modality CT, not a photograph/,
    ],
    [
      'an endoscopy',
      'IMAGE_UNSUPPORTED',
      dicom({ sopClass: '1.2.840.10008.5.1.4.1.1.77.1.1' }),
      /neither a photograph nor/,
    ],
    [
      'JPEG 2000 in DICOM',
      'IMAGE_UNSUPPORTED',
      dicom({ transferSyntax: '1.2.840.10008.1.2.4.90', isEncapsulated: true }),
      /JPEG 2000 inside/,
    ],
    [
      'too many pixels in DICOM',
      'IMAGE_TOO_LARGE',
      dicom({ width: 60_000, height: 60_000 }),
      /60000 × 60000 pixels/,
    ],
    [
      'too many pixels in BMP',
      'IMAGE_TOO_LARGE',
      (() => {
        const file = bmp(24, new Uint8Array(100));
        file.writeInt32LE(1e7, 18);
        return file;
      })(),
      /10000000 × 21 pixels/,
    ],
    [
      'too many pixels in PPM',
      'IMAGE_TOO_LARGE',
      Buffer.from('P6 100000 100000 255\n'),
      /100000 × 100000 pixels/,
    ],
    ['DICOM cut short', 'IMAGE_UNREADABLE', dicom({}).subarray(0, 900), /damaged or cut short/],
    ['BMP cut short', 'IMAGE_UNREADABLE', bmp(24, bmpRows(bgrRow)).subarray(0, 900), /damaged or cut short/],
    ['PGM cut short', 'IMAGE_UNREADABLE', Buffer.from('P5 30 30 255\n12345'), /damaged or cut short/],
    [
      'a colour outside of the palette',
      'IMAGE_UNREADABLE',
      bmp(
        8,
        bmpRows(() => new Uint8Array(width).fill(9)),
        { palette: new Uint8Array(16) },
      ),
      /damaged/,
    ],
    [
      'a file that only begins like HEIC',
      'IMAGE_UNREADABLE',
      Buffer.concat([Buffer.from('\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'latin1'), Buffer.alloc(500, 7)]),
      /damaged or cut short/,
    ],
  ];
  test.each(refused)('%s', async (_what, code, bytes, words) => {
    const error = await errorOf(decodeImage(typeof bytes === 'function' ? await bytes() : bytes, 'a.jpg'));

    expect(error.message).toMatch(words);
    expect(error.code).toBe(code);
    expect(error.message).toContain('"a.jpg"');
  });

  test('a file that takes its reader too long, and the next one is read again', async () => {
    const ppm = Buffer.from(`P3 3000 3000 255\n${'1 '.repeat(3000 * 3000 * 3)}`);

    const slow = await readForeignImage('pnm', ppm, 1e8, 5);
    const next = await readForeignImage('pnm', Buffer.from('P5 1 1 255\n\x07'), 100);

    expect(slow.type).toBe('timed-out');
    expect(next).toMatchObject({ type: 'pixels', width: 1, height: 1, data: Uint8Array.of(7, 7, 7) });
  });

  test.each(['bmp', 'pnm', 'heic', 'dicom'] as const)(
    'random bytes given as %s, whatever they are',
    async (format) => {
      const heads = {
        bmp: bmp(24, bmpRows(bgrRow)),
        pnm: Buffer.from('P5 9 9 255\n'),
        heic: Buffer.from('\0\0\0\x18ftypheic', 'latin1'),
        dicom: Buffer.from(dicom({})),
      };
      for (let round = 0; round < 40; round++) {
        const bytes = Buffer.concat([
          heads[format],
          Buffer.from(Array.from({ length: 60 }, () => random.integer(256))),
        ]);
        for (let flips = 0; flips < 8; flips++) bytes[random.integer(bytes.length)] = random.integer(256);

        const reply = await readForeignImage(format, bytes, 1e6, 20_000);

        expect(['pixels', 'refused', 'jpeg']).toContain(reply.type);
        if (reply.type === 'pixels') expect(reply.data.length).toBe(reply.width * reply.height * 3);
      }
    },
  );
});

const probes = '/work/shared/probes';
const folder = [join(import.meta.dirname, '../../../shared/probes'), probes].find((path) => existsSync(path));

/** Needs the probes beside the checkout; says so and skips without them. */
describe.skipIf(folder === undefined)('every image probe', () => {
  const list: { file: string; expected: string; note: string }[] =
    folder === undefined ? [] : JSON.parse(readFileSync(join(folder, 'images.json'), 'utf8'));
  const files = folder === undefined ? [] : readdirSync(join(folder, 'images'));
  /** Valid, and read today although version 0.1 refused them. */
  const readNow = /^a\.(webp|tif|bmp|heic|avif|pgm|dcm)$|^heic_named/;
  /** What lossy formats and the conversion from CMYK may differ by, in the mean. */
  const within = (file: string) =>
    /cmyk\.jpg/.test(file) ? 20 : /heic|avif|webp|jpg|JPG|noext|trail/.test(file) ? 8 : 2;

  test('is on the list', () => {
    expect(list.length).toBeGreaterThan(60);
    for (const { file } of list)
      expect(files.map((name) => name.normalize('NFC'))).toContain(file.normalize('NFC'));
  });

  test.each(list)('$file: $note', async ({ file, expected, note }) => {
    const name = files.find((candidate) => candidate.normalize('NFC') === file.normalize('NFC'))!;
    const bytes = readFileSync(join(folder!, 'images', name));
    if (expected === 'refuse' && !readNow.test(file)) {
      const error = await errorOf(decodeImage(bytes, file));
      expect(error.code).toMatch(/^IMAGE_/);
      return;
    }
    if (expected === 'either') {
      await decodeImage(bytes, file).catch((error) => expect(error).toBeInstanceOf(AppError));
      return;
    }
    const image = await decodeImage(bytes, file);
    if (
      /^(onepixel|thin|alpha0|grey12in16|pal|rgba|la)\b|transparent|swapped|CMYK-class/.test(
        `${file} ${note}`,
      )
    ) {
      expect(image.data.length).toBe(image.width * image.height * 3);
      return;
    }
    const isGrey = /gr[ea]y|\.pgm|^la/.test(file);
    const base = await decodeImage(
      readFileSync(join(folder!, 'images', isGrey ? 'grey.png' : 'rgb.png')),
      'base',
    );
    expect([image.width, image.height]).toEqual([base.width, base.height]);
    const mean =
      image.data.reduce((sum, value, index) => sum + Math.abs(value - base.data[index]!), 0) /
      base.data.length;
    expect(mean).toBeLessThan(within(file));
  });
});
