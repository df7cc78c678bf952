/** The face detector with its real networks, on the sample photographs of an installed package and what is made of them. */
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeImage } from '../../core/data/decode.ts';
import { alignRegion, cutRegion } from '../../core/data/face-region.ts';
import type { Face, FaceDetector } from '../../core/data/faces.ts';
import type { RgbImage } from '../../core/data/rgb-image.ts';
import { createFaceDetector } from '../../core/engine/faces/detector.ts';
import { startFacePool } from '../../core/engine/faces/process-pool.ts';

const samples = join(
  dirname(createRequire(import.meta.url).resolve('@vladmandic/face-api/package.json')),
  'demo',
);
const sample = async (name: string) => decodeImage(await readFile(join(samples, name)), name);
const asImage = async (image: Sharp) => decodeImage(await image.png().toBuffer(), 'made.png');
/** Of sample1: a woman who looks into the camera; where her face is in the photograph of 1920 pixels. */
const known = { left: 414, top: 357, side: 200 };

let detector: FaceDetector;
beforeAll(async () => {
  detector = await createFaceDetector({ processes: 2 });
});
afterAll(() => detector.close());

const leftmost = (faces: readonly Face[]) => [...faces].sort((a, b) => a.box.x - b.box.x)[0]!;

/** Two images of the same size: 1 when equal, about 0 when they have nothing to do with each other. */
function correlation(a: Uint8Array, b: Uint8Array): number {
  const mean = (values: Uint8Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let index = 0; index < a.length; index++) {
    const [x, y] = [a[index]! - meanA, b[index]! - meanB];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / Math.sqrt(aa * bb);
}

describe('the face detector', () => {
  test('finds the faces of a photograph, the surest first, in its own pixels', async () => {
    const faces = await detector.detect(await sample('sample1.jpg'));

    expect(faces).toHaveLength(3);
    expect(faces.map(({ score }) => score)).toEqual(faces.map(({ score }) => score).sort((a, b) => b - a));
    // 1920 pixels wide: found in a smaller copy, told in the original's pixels.
    const lefts = faces.map(({ box }) => box.x).sort((a, b) => a - b);
    [known.left, 837, 1476].forEach((left, index) => {
      expect(Math.abs(lefts[index]! - left)).toBeLessThan(25);
    });
    for (const { landmarks, box } of faces) {
      const [leftEye, rightEye, nose, leftMouth, rightMouth] = landmarks;
      expect(leftEye.x).toBeLessThan(rightEye.x);
      expect(leftMouth.x).toBeLessThan(rightMouth.x);
      expect(nose.y).toBeGreaterThan(Math.min(leftEye.y, rightEye.y));
      for (const { x, y } of landmarks) {
        expect(x > box.x && x < box.x + box.width).toBe(true);
        expect(y > box.y && y < box.y + box.height).toBe(true);
      }
    }
  });

  /** The face of sample1 with so much of its surroundings: 1 is the box of the face alone. */
  const portrait = async (sides: number, size: number) => {
    const { left, top, side } = known;
    const [middleX, middleY, reach] = [left + side / 2, top + side / 2, (side * sides) / 2];
    return sharp(join(samples, 'sample1.jpg'))
      .extract({
        left: Math.round(middleX - reach),
        top: Math.round(middleY - reach),
        width: Math.round(2 * reach),
        height: Math.round(2 * reach),
      })
      .resize(size, size);
  };

  test.each([
    ['fills the picture', 1.05, 600],
    ['fills three quarters of it', 1.33, 600],
    ['fills a half of it', 2, 600],
    ['is in a picture of 64 pixels', 1.3, 64],
  ])('finds a face that %s', async (_, sides, size) => {
    const faces = await detector.detect(await asImage(await portrait(sides, size)));

    expect(faces).toHaveLength(1);
    const [leftEye, rightEye] = faces[0]!.landmarks;
    expect(Math.abs((rightEye.x - leftEye.x) / size - 0.42 / sides)).toBeLessThan(0.1);
  });

  /** Sides of faces in the samples' pixels, and how much of it the picture shows. */
  test.each([
    ['sample3.jpg', { x: 1591, y: 432, side: 237 }, 0.9],
    ['sample4.jpg', { x: 1344, y: 270, side: 186 }, 0.7],
    ['sample5.jpg', { x: 1502, y: 525, side: 235 }, 0.7],
    ['sample6.jpg', { x: 359, y: 626, side: 240 }, 0.7],
    ['sample6.jpg', { x: 758, y: 480, side: 258 }, 0.7],
  ])('finds a face that is larger than the picture of it: %s, %o', async (name, { x, y, side }, share) => {
    const reach = (side * share) / 2;
    const [left, top] = [Math.round(x - reach), Math.round(y - reach)];
    const [width, height] = [Math.round(2 * reach), Math.round(2 * reach)];
    const cut = sharp(join(samples, name)).extract({ left, top, width, height }).resize(320, 320);

    const faces = await detector.detect(await asImage(cut));

    expect(faces).toHaveLength(1);
    const [leftEye, rightEye, , leftMouth, rightMouth] = faces[0]!.landmarks;
    expect(rightEye.x - leftEye.x).toBeGreaterThan(80);
    expect(leftMouth.y + rightMouth.y - leftEye.y - rightEye.y).toBeGreaterThan(160);
  });

  const attFaces = join(import.meta.dirname, '../../../shared/data/olivetti/images');
  // The AT&T faces are beside a development checkout, never part of it.
  test.skipIf(!existsSync(attFaces)).each([
    ['as they are', null],
    ['as high as a wide picture', { side: 240, width: 320, height: 240 }],
    ['three quarters of the picture', { side: 240, width: 320, height: 320 }],
  ])('finds faces with glasses and beards: %s', async (_, shown) => {
    // Of 40 people, two pictures each.
    const files = readdirSync(attFaces).filter((name) => /_0[16]\.png$/.test(name));
    const found = await Promise.all(
      files.map(async (name) => {
        const face = sharp(join(attFaces, name));
        if (shown === null) return detector.detect(await asImage(face));
        const ground = sharp({ create: { ...shown, channels: 3, background: '#5a7a9a' } });
        const input = await face.resize(shown.side, shown.side, { kernel: 'cubic' }).toBuffer();
        return detector.detect(await asImage(ground.composite([{ input }])));
      }),
    );

    expect(files.length).toBe(80);
    expect(files.filter((_, index) => found[index]!.length !== 1)).toEqual([]);
  });

  test('finds a face of a fiftieth of the photograph, and its landmarks with the photograph’s pixels', async () => {
    const side = 4000;
    const face = await (await portrait(2, 160)).png().toBuffer();
    const background = sharp({ create: { width: side, height: 3000, channels: 3, background: '#4a6a8a' } });
    const image = await asImage(background.composite([{ input: face, left: 2210, top: 1333 }]));
    const alone = await detector.detect(await asImage(await portrait(2, 160)));

    const faces = await detector.detect(image);

    expect(faces).toHaveLength(1);
    // Who wants a larger one does not wait for the look that finds it.
    expect(await detector.detect(image, { smallestFace: 0.2 })).toEqual([]);
    for (const [index, { x, y }] of faces[0]!.landmarks.entries()) {
      const expected = alone[0]!.landmarks[index]!;
      expect(Math.hypot(x - 2210 - expected.x, y - 1333 - expected.y)).toBeLessThan(4);
    }
  });

  test.each([-60, -30, 30, 60])('finds a head that is tilted by %i degrees', async (degrees) => {
    const turned = sharp(await (await portrait(2, 480)).png().toBuffer()).rotate(degrees, {
      background: '#4a6a8a',
    });

    const [face, ...more] = await detector.detect(await asImage(turned));

    expect(more).toEqual([]);
    const [left, right] = face!.landmarks;
    const roll = (Math.atan2(right.y - left.y, right.x - left.x) * 180) / Math.PI;
    expect(Math.abs(roll - degrees)).toBeLessThan(8);
  });

  test.each([
    [
      'one colour',
      async () => sharp({ create: { width: 200, height: 160, channels: 3, background: '#808080' } }),
    ],
    [
      'noise',
      async () =>
        sharp({
          create: {
            width: 300,
            height: 300,
            channels: 3,
            background: '#808080',
            noise: { type: 'gaussian', mean: 128, sigma: 50 },
          },
        }),
    ],
    ['one pixel', async () => sharp({ create: { width: 1, height: 1, channels: 3, background: '#808080' } })],
    ['a line', async () => sharp({ create: { width: 3000, height: 1, channels: 3, background: '#808080' } })],
  ] as const)('finds none in %s', async (_, make) => {
    expect(await detector.detect(await asImage(await make()))).toEqual([]);
  });

  test('keeps the image that it was given, and gives the same for it again, also beside others', async () => {
    const image = await sample('sample3.jpg');
    const before = Uint8Array.from(image.data);
    const first = await detector.detect(image);

    const [second, , third] = await Promise.all([
      detector.detect(image),
      detector.detect(await sample('sample6.jpg')),
      detector.detect(image),
    ]);

    expect(Buffer.compare(image.data, before)).toBe(0);
    expect(second).toEqual(first);
    expect(third).toEqual(first);
  });
});

test('what is kept of a face gives the same square whatever the size of the photograph', async () => {
  const squares = await Promise.all(
    [1920, 960].map(async (width) => {
      const image: RgbImage = await asImage(sharp(join(samples, 'sample1.jpg')).resize({ width }));
      const face = leftmost(await detector.detect(image));
      return alignRegion(await cutRegion(image, face), 'arcface-112', 112);
    }),
  );
  expect(correlation(squares[0]!, squares[1]!)).toBeGreaterThan(0.9);
});

describe('the processes of the detector', () => {
  const grey = {
    width: 64,
    height: 64,
    data: new Uint8Array(64 * 64 * 3).fill(128),
    look: { for: 'faces', smallestFace: 0.3 } as const,
  };

  test('a closed detector refuses instead of waiting for ever', async () => {
    const closing = await createFaceDetector({ processes: 1 });
    const running = closing.detect(grey).then(
      () => 'answered',
      () => 'refused',
    );
    await closing.close();
    expect(['answered', 'refused']).toContain(await running);
    await expect(closing.detect(grey)).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  test('an image that cannot be looked at fails alone', async () => {
    await using pool = await openPool();
    const cut = { ...grey, data: grey.data.subarray(0, 100) };

    const outcomes = await Promise.allSettled([pool.find(grey), pool.find(cut), pool.find(grey)]);

    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  });

  test('a device that does not work is left for the processor', async () => {
    const elsewhere = await createFaceDetector({ device: 'dml', processes: 1 });
    try {
      expect(await elsewhere.detect(grey)).toEqual([]);
    } finally {
      await elsewhere.close();
    }
  });
});

async function openPool() {
  const pool = await startFacePool('cpu', 1);
  return { ...pool, [Symbol.asyncDispose]: () => pool.close() };
}
