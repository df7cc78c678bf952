/** Similarity transforms, templates and the squares cut by them, against scikit-image's and OpenCV's numbers. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeCrop, encodeCrop, encodeRegion } from '../../core/data/crop-file.ts';
import {
  alignRegion,
  cutRegion,
  type FaceRegion,
  largestRegion,
  squareOf,
} from '../../core/data/face-region.ts';
import {
  arcfaceTemplate,
  dlibTemplate,
  type FiveLandmarks,
  toTemplate,
} from '../../core/data/face-templates.ts';
import type { RgbImage } from '../../core/data/rgb-image.ts';
import { warpToSquare } from '../../core/data/warp.ts';
import {
  applySimilarity,
  factorOf,
  fitSimilarity,
  invertSimilarity,
  type Point,
} from '../../core/linalg/similarity-transform.ts';

const five = (values: readonly (readonly number[])[]) =>
  values.map(([x = 0, y = 0]) => ({ x, y })) as unknown as FiveLandmarks;

/**
 * Landmarks, and a, b, tx, ty of `skimage.transform.SimilarityTransform.estimate(landmarks, arcface_dst)`, scikit-image 0.26.
 * insightface aligns with it.
 */
const estimates: [string, FiveLandmarks, [number, number, number, number]][] = [
  [
    'from the front',
    five([
      [120.5, 88.25],
      [171.75, 90.5],
      [147, 121.5],
      [126.25, 150.75],
      [166, 152.5],
    ]),
    [0.6709881689881935, -0.014641595293999702, -43.90664967495846, -6.945426605362783],
  ],
  [
    'tilted',
    five([
      [300.2, 210.7],
      [352.9, 251.3],
      [305.5, 270.1],
      [262.4, 283.8],
      [311.6, 320.9],
    ]),
    [0.4205989258666095, -0.26823564961130403, -144.6113060367114, 41.669042499160206],
  ],
  [
    'from the side',
    five([
      [40.1, 33.3],
      [52.7, 31.9],
      [58.4, 47.2],
      [41.8, 60.6],
      [50.3, 59.7],
    ]),
    [1.4740505052535111, 0.013473414902767622, -15.074084856061049, 2.642853116332887],
  ],
  [
    'upside down',
    five([
      [171.75, 152.5],
      [120.5, 150.75],
      [147, 121.5],
      [166, 90.5],
      [126.25, 88.25],
    ]),
    [-0.6710447237146657, 0.014340861652614967, 155.93094508092625, 150.79781009258255],
  ],
];

describe('a similarity', () => {
  test.each(estimates)('of a face seen %s is scikit-image’s', (_, landmarks, [a, b, x, y]) => {
    const found = toTemplate(arcfaceTemplate, landmarks, 112);

    expect(found.a).toBeCloseTo(a, 10);
    expect(found.b).toBeCloseTo(b, 10);
    expect(found.moveX).toBeCloseTo(x, 8);
    expect(found.moveY).toBeCloseTo(y, 8);
  });

  const coordinate = fc.double({ min: -500, max: 500, noNaN: true });
  const somePoint = fc.record({ x: coordinate, y: coordinate });
  test('is found again, and its inverse undoes it', () => {
    fc.assert(
      fc.property(
        fc.record({
          a: fc.double({ min: 0.05, max: 5, noNaN: true }),
          b: coordinate,
          moveX: coordinate,
          moveY: coordinate,
        }),
        fc.array(somePoint, { minLength: 2, maxLength: 9 }),
        (similarity, points) => {
          fc.pre(points.some(({ x, y }) => Math.hypot(x - points[0]!.x, y - points[0]!.y) > 1));
          const moved = points.map((point) => applySimilarity(similarity, point));

          const found = fitSimilarity(points, moved);
          const [back] = moved.map((point) => applySimilarity(invertSimilarity(similarity), point)) as [
            Point,
          ];

          expect(factorOf(found)).toBeCloseTo(factorOf(similarity), 4);
          expect(found.a).toBeCloseTo(similarity.a, 4);
          expect(back.x).toBeCloseTo(points[0]!.x, 5);
          expect(back.y).toBeCloseTo(points[0]!.y, 5);
        },
      ),
    );
  });

  test('of points that are all the same, or of two lists that do not match, is refused', () => {
    const here = { x: 3, y: 4 };
    expect(() => fitSimilarity([here, here], [here, here])).toThrow(RangeError);
    expect(() => fitSimilarity([here], [here])).toThrow(RangeError);
    expect(() => fitSimilarity([here, { x: 1, y: 1 }], [here])).toThrow(RangeError);
  });
});

test('both templates put a face in the same place but for size and a little of the middle', () => {
  // Between the published means of two sets of faces.
  const between = fitSimilarity(dlibTemplate.points, arcfaceTemplate.points);
  for (const [index, point] of dlibTemplate.points.entries()) {
    const { x, y } = applySimilarity(between, point);
    expect(
      Math.hypot(x - arcfaceTemplate.points[index]!.x, y - arcfaceTemplate.points[index]!.y),
    ).toBeLessThan(4);
  }
});

/** Of the picture below, `cv2.warpAffine(image, [[a, -b, x], [b, a, y]], (6, 6))`, bilinear, OpenCV 5.0: the red channel. */
const warped: [number, number, number, number, number[]][] = [
  [
    1.0,
    0.0,
    -2.3,
    -1.6,
    [
      55, 74, 93, 112, 131, 150, 62, 81, 100, 119, 138, 157, 69, 88, 107, 126, 145, 164, 76, 95, 114, 133,
      152, 171, 83, 102, 121, 140, 159, 178, 90, 109, 128, 147, 166, 185,
    ],
  ],
  [
    0.9,
    0.25,
    -1.4,
    -3.2,
    [
      65, 83, 100, 118, 136, 153, 78, 95, 113, 131, 148, 166, 90, 108, 126, 143, 161, 178, 103, 121, 138, 156,
      174, 191, 116, 133, 151, 169, 186, 204, 128, 146, 164, 181, 199, 216,
    ],
  ],
  [
    1.7,
    -0.4,
    -6.5,
    2.25,
    [
      45, 62, 82, 105, 118, 129, 73, 85, 96, 108, 119, 131, 74, 86, 97, 109, 120, 132, 76, 87, 99, 110, 122,
      133, 77, 89, 100, 112, 123, 135, 79, 90, 102, 113, 125, 136,
    ],
  ],
];

const picture: RgbImage = {
  ...{ width: 12, height: 10 },
  data: Uint8Array.from({ length: 12 * 10 * 3 }, (_, at) => {
    const [x, y] = [Math.floor(at / 3) % 12, Math.floor(at / 36)];
    return [x * 19 + y * 7, x * y * 5, 255 - x * 11 - y * 13][at % 3]! & 255;
  }),
};

test.each(warped)('warped by %f, %f, %f, %f a picture is OpenCV’s', (a, b, moveX, moveY, expected) => {
  const square = warpToSquare(picture, { a, b, moveX, moveY }, 6);

  // OpenCV rounds the weights to 1/32.
  const red = Array.from({ length: 36 }, (_, index) => square[3 * index]!);
  const most = Math.max(...red.map((value, index) => Math.abs(value - expected[index]!)));
  expect(most).toBeLessThanOrEqual(4);
});

test('a picture that becomes smaller keeps its mean, and fine stripes do not turn into broad ones', () => {
  const side = 200;
  const stripes = {
    width: side,
    height: side,
    data: new Uint8Array(3 * side * side).map((_, at) => ((at / 3) % 2 < 1 ? 0 : 200)),
  };

  const square = warpToSquare(stripes, { a: 0.3, b: 0.02, moveX: 0, moveY: 0 }, 50);

  const inner = square.filter((_, at) => at % 150 > 30 && at % 150 < 120 && at > 1500 && at < 6000);
  expect(Math.max(...inner) - Math.min(...inner)).toBeLessThan(50);
  expect(inner.reduce((sum, value) => sum + value, 0) / inner.length).toBeCloseTo(100, -1);
});

/** Five dots of their own colours where the landmarks are. */
function dotted(landmarks: FiveLandmarks, width: number, height: number, radius: number): RgbImage {
  const data = new Uint8Array(3 * width * height);
  for (const [index, { x, y }] of landmarks.entries())
    for (let v = Math.ceil(y - radius); v <= y + radius; v++)
      for (let u = Math.ceil(x - radius); u <= x + radius; u++)
        if (u >= 0 && v >= 0 && u < width && v < height && Math.hypot(u - x, v - y) <= radius)
          data[3 * (v * width + u)] = 50 * (index + 1);
  return { width, height, data };
}

const headBox = (landmarks: FiveLandmarks) => {
  const [left, right, , mouth] = landmarks;
  return { x: left.x - 20, y: left.y - 30, width: right.x - left.x + 40, height: mouth.y - left.y + 60 };
};

describe('the region of a face', () => {
  /** How large a face is in its photograph, how it is turned, and where it is. */
  const faces: [string, number, number, number, number][] = [
    ['small', 0.4, 0, 400, 300],
    ['large', 9, 10, 1100, 900],
    ['tilted to one side', 3, 70, 700, 700],
    ['tilted to the other', 3, -70, 700, 700],
    ['at the border', 2, 5, 60, 80],
  ];
  test.each(faces)('that is %s holds what both templates show', async (_, scale, degrees, x, y) => {
    const [sin, cos] = [Math.sin((degrees * Math.PI) / 180), Math.cos((degrees * Math.PI) / 180)];
    const place = { a: scale * cos, b: scale * sin, moveX: 0, moveY: 0 };
    const nose = applySimilarity(place, arcfaceTemplate.points[2]);
    const moved = { ...place, moveX: x - nose.x, moveY: y - nose.y };
    const landmarks = arcfaceTemplate.points.map((point) =>
      applySimilarity(moved, point),
    ) as unknown as FiveLandmarks;
    const photograph = dotted(landmarks, 2000, 1600, 5 * scale);

    const region = await cutRegion(photograph, { landmarks, box: headBox(landmarks), score: 1 });

    const { width, height } = region.image;
    expect(Math.max(width, height)).toBeLessThanOrEqual(largestRegion);
    for (const [alignment, template] of [
      ['arcface-112', arcfaceTemplate],
      ['dlib-150', dlibTemplate],
    ] as const) {
      const square = alignRegion(region, alignment, template.side);
      for (const [index, point] of template.points.entries()) {
        const shown = applySimilarity(squareOf(region, alignment, template.side), region.landmarks[index]!);
        const at = 3 * (Math.round(shown.y) * template.side + Math.round(shown.x));
        expect(Math.hypot(shown.x - point.x, shown.y - point.y)).toBeLessThan(5);
        expect(Math.abs(square[at]! - 50 * (index + 1))).toBeLessThan(12);
      }
      // No corner of the square lies outside of what was kept, unless it lies outside of the photograph.
      const fromSquare = invertSimilarity(squareOf(region, alignment, template.side));
      for (const corner of [0, 1, 2, 3]) {
        const end = template.side - 1;
        const place = applySimilarity(fromSquare, { x: corner % 2 ? end : 0, y: corner > 1 ? end : 0 });
        const isInside =
          place.x >= -0.5 && place.y >= -0.5 && place.x <= width - 0.5 && place.y <= height - 0.5;
        expect(isInside || x < 200).toBe(true);
      }
    }
  });

  test('of a small face has the pixels of the photograph', async () => {
    const landmarks = arcfaceTemplate.points.map(({ x, y }) => ({
      x: x + 100,
      y: y + 90,
    })) as unknown as FiveLandmarks;
    const random = Uint8Array.from({ length: 3 * 320 * 300 }, (_, at) => (at * 7919) % 251);
    const photograph = { width: 320, height: 300, data: random };

    const { image, landmarks: moved } = await cutRegion(photograph, {
      landmarks,
      box: headBox(landmarks),
      score: 1,
    });

    const [left, top] = [landmarks[0].x - moved[0].x, landmarks[0].y - moved[0].y];
    expect([left, top].every((value) => Math.abs(value - Math.round(value)) < 1e-9)).toBe(true);
    const at = (own: RgbImage, x: number, y: number) => own.data[3 * (y * own.width + x)];
    for (const [x, y] of [
      [0, 0],
      [17, 40],
      [image.width - 1, image.height - 1],
    ] as const)
      expect(at(image, x, y)).toBe(at(photograph, x + Math.round(left), y + Math.round(top)));
  });

  test('outside of the picture is refused', async () => {
    const landmarks = arcfaceTemplate.points.map(({ x, y }) => ({
      x: x + 900,
      y,
    })) as unknown as FiveLandmarks;
    const image = { width: 200, height: 200, data: new Uint8Array(3 * 200 * 200) };

    await expect(cutRegion(image, { landmarks, box: headBox(landmarks), score: 1 })).rejects.toMatchObject({
      code: 'IMAGE_UNREADABLE',
    });
  });
});

describe('a stored face', () => {
  const region: FaceRegion = {
    image: picture,
    landmarks: five([
      [3.25, 4.5],
      [8.75, 4.25],
      [6, 5.5],
      [4, 8],
      [8, 8.125],
    ]),
    box: { x: 1.5, y: 2, width: 9, height: 7.5 },
  };

  test('is read as it was written, with its landmarks', () => {
    const { image, face } = decodeCrop(encodeRegion(region), 'a.crop');

    expect({ image, ...face! }).toEqual(region);
    expect(decodeCrop(encodeCrop(picture), 'b.crop')).toEqual({ image: picture, face: null });
  });

  test('whose landmarks are no places is refused', () => {
    for (const x of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const landmarks = region.landmarks.map((point, index) => (index === 2 ? { ...point, x } : point));
      const bytes = encodeRegion({ ...region, landmarks: landmarks as unknown as FiveLandmarks });
      expect(() => decodeCrop(bytes, 'a.crop')).toThrow(
        expect.objectContaining({ code: 'MODEL_FILE_INVALID' }),
      );
    }
    const same = region.landmarks.map(() => ({ x: 1, y: 1 })) as unknown as FiveLandmarks;
    expect(() => decodeCrop(encodeRegion({ ...region, landmarks: same }), 'a.crop')).toThrow(
      expect.objectContaining({ code: 'MODEL_FILE_INVALID' }),
    );
  });

  test('gives each alignment its own square', () => {
    const [arcface, dlib, box, none] = (['arcface-112', 'dlib-150', 'box', 'none'] as const).map(
      (alignment) => Buffer.from(alignRegion(region, alignment, 16)).toString('hex'),
    );
    expect(new Set([arcface, dlib, box, none]).size).toBe(4);
  });
});
