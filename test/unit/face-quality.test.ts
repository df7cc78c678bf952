/** What is measured of a face, against figures that are known. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import sharp, { type Sharp } from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeImage } from '../../core/data/decode.ts';
import { poseOf } from '../../core/data/face-pose.ts';
import { alignRegion, cutRegion } from '../../core/data/face-region.ts';
import { arcfaceTemplate, type FiveLandmarks } from '../../core/data/face-templates.ts';
import type { Face, FaceDetector } from '../../core/data/faces.ts';
import { quarterTurns, type Turn, uprightImage } from '../../core/data/orientation.ts';
import { hashDistance, hashWords, pictureHash } from '../../core/data/picture-hash.ts';
import { measureFace, measurePicture } from '../../core/data/quality.ts';
import type { RgbImage } from '../../core/data/rgb-image.ts';
import { findUprightFaces } from '../../core/data/upright-faces.ts';
import { createFaceDetector } from '../../core/engine/faces/detector.ts';
import { createRandom } from '../../core/shared/random.ts';

const samples = join(
  dirname(createRequire(import.meta.url).resolve('@vladmandic/face-api/package.json')),
  'demo',
);

/** A head like the one of core/data/face-pose.ts, turned and seen by a camera far away. */
function landmarksOf(roll: number, yaw: number, pitch: number, scale: number): FiveLandmarks {
  const [r, y, p] = [roll, yaw, pitch].map((degrees) => (degrees * Math.PI) / 180) as [
    number,
    number,
    number,
  ];
  const [, , nose] = arcfaceTemplate.points;
  return arcfaceTemplate.points.map((point, index) => {
    const [x, down, z] = [point.x - nose.x, point.y - nose.y, index === 2 ? 0 : 14];
    // Pitch about x, then yaw about y, then roll in the image.
    const y1 = down * Math.cos(p) - z * Math.sin(p);
    const z1 = down * Math.sin(p) + z * Math.cos(p);
    const x2 = x * Math.cos(y) - z1 * Math.sin(y);
    return {
      x: 500 + scale * (x2 * Math.cos(r) - y1 * Math.sin(r)),
      y: 400 + scale * (x2 * Math.sin(r) + y1 * Math.cos(r)),
    };
  }) as unknown as FiveLandmarks;
}

test('the pose of a head is found again, however it is turned and wherever it is', () => {
  fc.assert(
    fc.property(
      fc.tuple(
        fc.integer({ min: -80, max: 80 }),
        fc.integer({ min: -70, max: 70 }),
        fc.integer({ min: -60, max: 60 }),
        fc.double({ min: 0.05, max: 5, noNaN: true }),
      ),
      ([roll, yaw, pitch, scale]) => {
        const pose = poseOf({ landmarks: landmarksOf(roll, yaw, pitch, scale) });

        expect(pose.roll).toBeCloseTo(roll, 3);
        expect(pose.yaw).toBeCloseTo(yaw, 3);
        // Here the chin goes to the chest with a positive angle; the figure is positive for a raised head.
        expect(pose.pitch).toBeCloseTo(-pitch, 3);
      },
    ),
  );
});

describe('sharpness, brightness and the hash of a crop', () => {
  const random = createRandom(3);
  const noise = Uint8Array.from({ length: 96 * 96 * 3 }, () => 60 + random.integer(120));
  const noisy = () => sharp(noise, { raw: { width: 96, height: 96, channels: 3 } });
  const crop = async (image: Sharp): Promise<RgbImage> => ({
    width: 96,
    height: 96,
    data: await image.removeAlpha().raw().toBuffer(),
  });
  const measure = async (image: Sharp, shown = { width: 96, height: 96 }) =>
    measurePicture(await crop(image), shown, []);

  test('the more it is blurred the less sharp it is, whatever its contrast', async () => {
    const figures = [];
    for (const sigma of [0, 1, 2, 4]) {
      const image = sigma === 0 ? noisy() : noisy().blur(sigma);
      figures.push((await measure(image)).quality.sharpness);
    }
    const pale = (await measure(noisy().linear(0.5, 60))).quality.sharpness;

    expect(figures).toEqual([...figures].sort((a, b) => b - a));
    expect(figures[0]! / figures[3]!).toBeGreaterThan(10);
    expect(Math.abs(pale / figures[0]! - 1)).toBeLessThan(0.05);
  });

  test('black and white parts are counted, and bars beside a narrow picture are no part of it', async () => {
    const half = sharp({ create: { width: 96, height: 96, channels: 3, background: '#fff' } }).composite([
      { input: { create: { width: 48, height: 96, channels: 3, background: '#808080' } }, left: 0, top: 0 },
    ]);
    const barred = sharp({ create: { width: 96, height: 96, channels: 3, background: '#000' } }).composite([
      { input: { create: { width: 48, height: 96, channels: 3, background: '#808080' } }, left: 24, top: 0 },
    ]);

    expect((await measure(half)).quality).toMatchObject({ whiteShare: 0.5, blackShare: 0 });
    expect((await measure(barred, { width: 200, height: 400 })).quality).toMatchObject({
      blackShare: 0,
      facePixels: 200,
    });
    expect((await measure(barred)).quality.blackShare).toBeGreaterThan(0.3);
  });

  test('the hash of a copy is near, that of another picture is far', async () => {
    const faces = noisy().blur(4).linear(4, -360);
    const one = (await measure(faces.clone())).cropHash;
    const copy = (
      await measure(sharp(await faces.clone().jpeg({ quality: 40 }).toBuffer()).modulate({ brightness: 1.1 }))
    ).cropHash;
    const mirrored = (await measure(faces.clone().flop())).cropHash;

    expect(one).toMatch(/^[0-9a-f]{64}$/);
    expect(hashDistance(hashWords(one), hashWords(copy))).toBeLessThan(25);
    expect(hashDistance(hashWords(one), hashWords(mirrored))).toBeGreaterThan(60);
    expect(hashDistance(hashWords(one), hashWords(mirrored), 10)).toBeGreaterThan(10);
  });

  test('the hash is the signs of the low frequencies', () => {
    const wave = Float64Array.from({ length: 32 * 32 }, (_, at) =>
      Math.cos((Math.PI * 3 * (2 * (at % 32) + 1)) / 64),
    );
    const bits = Buffer.from(pictureHash(wave.map((value) => value * 100 + 128)), 'hex');

    // Of the first row of frequencies, number 3 alone is there and positive.
    expect(bits[0]! & 0b1000).toBe(0b1000);
    expect(Buffer.from(pictureHash(wave.map((value) => -value * 100 + 128)), 'hex')[0]! & 0b1000).toBe(0);
  });
});

describe('a photograph on its side', () => {
  let detector: FaceDetector;
  let portrait: RgbImage;
  beforeAll(async () => {
    detector = await createFaceDetector();
    const file = readFileSync(join(samples, 'sample1.jpg'));
    portrait = await decodeImage(
      await sharp(file).extract({ left: 150, top: 150, width: 600, height: 800 }).png().toBuffer(),
      'portrait.png',
    );
  });
  afterAll(() => detector.close());

  test.each<[Turn, Turn]>([
    [0, 0],
    [90, 270],
    [180, 180],
    [270, 90],
  ])('turned by %i° gives the same crop as the upright one', async (by, back) => {
    const upright = await findUprightFaces(portrait, detector);
    const square = async (image: RgbImage, face: Face) =>
      alignRegion(await cutRegion(image, face), 'dlib-150', 150);
    const expected = await square(portrait, upright.faces[0]!);

    const { image, faces, turned } = await findUprightFaces(
      uprightImage(portrait, quarterTurns[by]),
      detector,
    );

    expect(turned).toBe(back);
    expect(faces).toHaveLength(1);
    const crop = await square(image, faces[0]!);
    const difference = crop.reduce((sum, value, index) => sum + Math.abs(value - expected[index]!), 0);
    expect(difference / crop.length).toBeLessThan(3);
  });

  test('costs no more than one look where the face is upright, and four where there is none', async () => {
    let looks = 0;
    const counting: FaceDetector = {
      ...detector,
      detect: (image) => {
        looks += 1;
        return detector.detect(image);
      },
    };

    await findUprightFaces(portrait, counting);
    const forPortrait = looks;
    await findUprightFaces({ width: 64, height: 64, data: new Uint8Array(64 * 64 * 3) }, counting);

    expect([forPortrait, looks - forPortrait]).toEqual([1, 4]);
  });
});

test('a face at the border is measured by what is there of it', async () => {
  const detector = await createFaceDetector({ processes: 1 });
  try {
    const whole = await decodeImage(readFileSync(join(samples, 'sample1.jpg')), 'sample1.jpg');
    const face = (await detector.detect(whole)).sort((a, b) => a.box.x - b.box.x)[0]!;
    // Cut off through the nose.
    const width = Math.round(face.landmarks[2].x);
    const data = await sharp(whole.data, { raw: { width: whole.width, height: whole.height, channels: 3 } })
      .extract({ left: 0, top: 0, width, height: whole.height })
      .raw()
      .toBuffer();
    const cut = { width, height: whole.height, data };

    const measure = async (photograph: RgbImage) =>
      measureFace({ photograph, face, region: await cutRegion(photograph, face), turned: 0, notes: [] });
    const [all, half] = [await measure(whole), await measure(cut)];

    expect(half.quality.blackShare).toBeLessThan(0.05);
    expect(half.quality.eyeDistance).toBe(all.quality.eyeDistance);
    expect(half.quality.facePixels).toBeLessThanOrEqual(all.quality.facePixels);
  } finally {
    await detector.close();
  }
});
