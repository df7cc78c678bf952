import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeImage } from '../../core/data/decode.ts';
import { alignFace, alignmentBox, createFaceDetector, type FaceDetector } from '../../core/data/faces.ts';
import type { RgbImage } from '../../core/data/rgb-image.ts';

const samples = join(
  dirname(createRequire(import.meta.url).resolve('@vladmandic/face-api/package.json')),
  'demo',
);
const sample = async (name: string) => decodeImage(await readFile(join(samples, name)), name);

let detector: FaceDetector;
beforeAll(async () => {
  detector = await createFaceDetector();
});
afterAll(() => detector.close());

/** Two images of the same size: 1 when equal, about 0 when they have nothing to do with each other. */
function correlation(a: RgbImage, b: RgbImage): number {
  const mean = (image: RgbImage) => image.data.reduce((sum, value) => sum + value, 0) / image.data.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let index = 0; index < a.data.length; index++) {
    const [x, y] = [a.data[index]! - meanA, b.data[index]! - meanB];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / Math.sqrt(aa * bb);
}

describe('the face detector', () => {
  test('finds the faces of a photograph, the surest first, in its own pixels', async () => {
    const image = await sample('sample1.jpg');

    const faces = await detector.detect(image);

    expect(faces).toHaveLength(3);
    expect(faces.map(({ score }) => score)).toEqual(faces.map(({ score }) => score).sort((a, b) => b - a));
    // 1920 pixels wide: found in a smaller copy, told in the original's pixels.
    const lefts = faces.map(({ box }) => box.x).sort((a, b) => a - b);
    [414, 837, 1476].forEach((left, index) => {
      expect(Math.abs(lefts[index]! - left)).toBeLessThan(20);
    });
    for (const { landmarks, box } of faces) {
      expect(landmarks).toHaveLength(68);
      const [leftEye, rightEye, chin] = [landmarks[36]!, landmarks[45]!, landmarks[8]!];
      expect(leftEye.x).toBeLessThan(rightEye.x);
      expect(chin.y).toBeGreaterThan(leftEye.y);
      expect(leftEye.x).toBeGreaterThan(box.x - box.width * 0.2);
    }
  });

  test('finds none where there is none', async () => {
    const data = new Uint8Array(200 * 200 * 3).fill(128);
    expect(await detector.detect({ width: 200, height: 200, data })).toEqual([]);
  });

  test('keeps the image that it was given, and the event loop free', async () => {
    const image = await sample('sample1.jpg');
    const before = image.data.length;
    let longestMs = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      longestMs = Math.max(longestMs, performance.now() - last);
      last = performance.now();
    }, 5);

    const started = performance.now();
    await detector.detect(image);
    const tookMs = performance.now() - started;
    clearInterval(timer);

    expect(image.data.length).toBe(before);
    expect(tookMs).toBeGreaterThan(100);
    expect(longestMs).toBeLessThan(tookMs / 2);
  });
});

describe('alignFace', () => {
  test('puts eyes and mouth where the recognition network expects them', async () => {
    const image = await sample('sample1.jpg');
    const face = (await detector.detect(image)).at(0)!;

    const crop = await alignFace(image, face, 150);

    expect([crop.width, crop.height]).toEqual([150, 150]);
    const box = alignmentBox(face);
    const inCrop = (point: { x: number; y: number }) => ({
      x: (point.x - box.x) / box.width,
      y: (point.y - box.y) / box.height,
    });
    const [eye, otherEye, mouth] = [face.landmarks[37]!, face.landmarks[44]!, face.landmarks[62]!].map(
      inCrop,
    );
    expect(Math.abs((eye!.x + otherEye!.x) / 2 - 0.5)).toBeLessThan(0.15);
    expect(eye!.y).toBeGreaterThan(0.1);
    expect(eye!.y).toBeLessThan(0.45);
    expect(mouth!.y).toBeGreaterThan(0.6);
    expect(mouth!.y).toBeLessThan(0.9);
  });

  test("takes the same square as the face library's own alignment", async () => {
    const image = await sample('sample3.jpg');
    // Only its geometry is used here, no network.
    const api = createRequire(import.meta.url)('@vladmandic/face-api/dist/face-api.node-wasm.js') as {
      Point: new (x: number, y: number) => object;
      FaceLandmarks68: new (
        relative: object[],
        size: { width: number; height: number },
      ) => {
        align(box: null, options: object): { x: number; y: number; width: number; height: number };
      };
    };
    for (const face of await detector.detect(image)) {
      const relative = face.landmarks.map(({ x, y }) => new api.Point(x / image.width, y / image.height));

      const { x, y, width, height } = new api.FaceLandmarks68(relative, image).align(null, {
        useDlibAlignment: true,
      });

      // Rounding down of nearly equal numbers may differ by one pixel.
      const box = alignmentBox(face);
      for (const [own, theirs] of [
        [box.x, x],
        [box.y, y],
        [box.width, width],
        [box.height, height],
      ]) {
        expect(Math.abs(own! - theirs!)).toBeLessThanOrEqual(1);
      }
    }
  });

  test('gives the same crop whatever the size of the photograph', async () => {
    const large = await sample('sample1.jpg');
    const small = await decodeImage(
      await sharp(join(samples, 'sample1.jpg')).resize({ width: 960 }).png().toBuffer(),
      'small.png',
    );
    const crops = await Promise.all(
      [large, small].map(async (image) => {
        const faces = await detector.detect(image);
        const leftmost = faces.sort((a, b) => a.box.x - b.box.x)[0]!;
        return alignFace(image, leftmost, 150);
      }),
    );
    expect(correlation(crops[0]!, crops[1]!)).toBeGreaterThan(0.9);
  });

  test('fills with black what lies beyond the border', async () => {
    const image = await sample('sample1.jpg');
    const face = (await detector.detect(image))[0]!;
    const box = alignmentBox(face);
    // The photograph cut off in the middle of the face.
    const width = box.x + Math.round(box.width / 2);
    const cut = await decodeImage(
      await sharp(image.data, { raw: { width: image.width, height: image.height, channels: 3 } })
        .extract({ left: 0, top: 0, width, height: image.height })
        .png()
        .toBuffer(),
      'cut.png',
    );

    const crop = await alignFace(cut, face, 150);

    const column = (x: number) => [0, 40, 75, 149].map((y) => crop.data[(y * 150 + x) * 3]!);
    expect(column(2)).toEqual([0, 0, 0, 0]);
    expect(column(147)).toEqual([0, 0, 0, 0]);
    expect(Math.max(...column(75))).toBeGreaterThan(20);
  });
});

test('a closed detector refuses instead of waiting for ever', async () => {
  const closing = await createFaceDetector();
  const image = { width: 64, height: 64, data: new Uint8Array(64 * 64 * 3) };
  const running = closing.detect(image).then(
    () => 'answered',
    () => 'refused',
  );
  await closing.close();
  expect(['answered', 'refused']).toContain(await running);
  await expect(closing.detect(image)).rejects.toMatchObject({ code: 'INTERNAL' });
});
