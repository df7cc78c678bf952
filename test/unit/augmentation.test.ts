import { describe, expect, test } from 'vitest';
import { augmentationSettingsSchema } from '../../core/config/local-training.ts';
import {
  type Augmentation,
  augmentationOf,
  drawAugmentation,
  writeAugmentedPlanes,
  writePlanes,
} from '../../core/engine/augmentation.ts';
import { createRandom } from '../../core/shared/random.ts';

const side = 6;
const strengths = augmentationSettingsSchema.parse({});
const unchanged: Augmentation = {
  flip: false,
  rotationDegrees: 0,
  shiftX: 0,
  shiftY: 0,
  zoom: 1,
  brightness: 0,
  contrast: 1,
  saturation: 1,
  blur: 0,
};

function randomCrop(seed: number, size = side): Uint8Array {
  const random = createRandom(seed);
  return Uint8Array.from({ length: 3 * size * size }, () => random.integer(256));
}

function augmented(crop: Uint8Array, change: Partial<Augmentation>, size = side): Float32Array {
  const target = new Float32Array(crop.length);
  writeAugmentedPlanes(crop, size, { ...unchanged, ...change }, target);
  return target;
}

describe('augmentation', () => {
  test('planes are red, green and blue in turn', () => {
    const crop = randomCrop(1);
    const target = new Float32Array(crop.length);

    writePlanes(crop, side, target);

    expect(target[7]).toBe(crop[21]);
    expect(target[side * side + 7]).toBe(crop[22]);
    expect(target[2 * side * side + 7]).toBe(crop[23]);
  });

  test('no change gives exactly the plain planes', () => {
    const crop = randomCrop(2);
    const plain = new Float32Array(crop.length);
    writePlanes(crop, side, plain);

    expect(augmented(crop, {})).toEqual(plain);
  });

  test('a flip mirrors every row', () => {
    const crop = randomCrop(3);
    const plain = augmented(crop, {});

    const flipped = augmented(crop, { flip: true });

    for (let y = 0; y < side * 3; y++) {
      const row = Array.from(plain.subarray(y * side, (y + 1) * side));
      expect(Array.from(flipped.subarray(y * side, (y + 1) * side))).toEqual(row.reverse());
    }
  });

  test('a shift by a whole pixel moves the image and repeats its edge', () => {
    const crop = randomCrop(4);
    const plain = augmented(crop, {});

    const shifted = augmented(crop, { shiftX: 1 / side });

    for (let x = 1; x < side; x++) expect(shifted[x]).toBeCloseTo(plain[x - 1]!, 3);
    expect(shifted[0]).toBeCloseTo(plain[0]!, 3);
  });

  test('a quarter turn turns the image', () => {
    const crop = randomCrop(5);
    const plain = augmented(crop, {});

    const turned = augmented(crop, { rotationDegrees: 90 });

    // Row y, column x of the turned image comes from row (last - x), column y, or its opposite corner.
    const clockwise = Array.from({ length: side * side }, (_, i) => {
      const y = Math.floor(i / side);
      const x = i % side;
      return plain[(side - 1 - x) * side + y]!;
    });
    for (const [i, value] of clockwise.entries()) expect(turned[i]).toBeCloseTo(value, 2);
  });

  test('brightness and contrast stay within 0…255', () => {
    const crop = Uint8Array.from({ length: 3 * side * side }, (_, i) => (i % 2 ? 250 : 100));

    const changed = augmented(crop, { brightness: 20, contrast: 1.1 });

    expect(changed[0]).toBeCloseTo((100 - 127.5) * 1.1 + 127.5 + 20, 3);
    expect(Math.max(...changed)).toBe(255);
  });

  test('is drawn from the seed', () => {
    const draw = (seed: number) => drawAugmentation(createRandom(seed), strengths);
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5)).not.toEqual(draw(6));
  });

  test('saturation keeps the grey of a pixel, and without any all channels are that grey', () => {
    const crop = Uint8Array.from({ length: 3 * side * side }, (_, i) => [200, 100, 50][i % 3]!);
    const grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 50;

    const faded = augmented(crop, { saturation: 0 });
    const halved = augmented(crop, { saturation: 0.5 });

    for (const at of [0, side * side, 2 * side * side]) expect(faded[at]).toBeCloseTo(grey, 3);
    expect(halved[0]).toBeCloseTo((200 + grey) / 2, 3);
  });

  test('blur is a Gaussian: a single bright pixel becomes its kernel and keeps its sum', () => {
    const size = 31;
    const crop = new Uint8Array(3 * size * size);
    crop.fill(240, 3 * (15 * size + 15), 3 * (15 * size + 15) + 3);
    const sigma = 1.5;

    const blurred = augmented(crop, { blur: sigma / size }, size);

    const plane = blurred.subarray(0, size * size);
    const at = (x: number, y: number) => plane[(15 + y) * size + 15 + x]!;
    expect(plane.reduce((sum, value) => sum + value, 0)).toBeCloseTo(240, 2);
    expect(at(2, 0) / at(0, 0)).toBeCloseTo(Math.exp(-4 / (2 * sigma * sigma)), 4);
    expect(at(1, 2) / at(0, 0)).toBeCloseTo(Math.exp(-5 / (2 * sigma * sigma)), 4);
    expect(at(-2, 1)).toBeCloseTo(at(1, 2), 5);
    expect(blurred.subarray(size * size, 2 * size * size)).toEqual(plane);
  });

  test('blur leaves an even image as it is, to its border', () => {
    const crop = new Uint8Array(3 * side * side).fill(90);
    for (const value of augmented(crop, { blur: 0.2 })) expect(value).toBeCloseTo(90, 3);
  });
});

describe('the strengths', () => {
  test('bound what is drawn, and a strength of 0 draws nothing', () => {
    const none = augmentationSettingsSchema.parse({
      flip: 0,
      rotationDegrees: 0,
      shift: 0,
      zoom: 0,
      brightness: 0,
      contrast: 0,
      saturation: 0,
      blur: 0,
    });
    const random = createRandom(3);
    const drawn = Array.from({ length: 200 }, () => drawAugmentation(random, strengths));

    expect(drawAugmentation(createRandom(3), none)).toEqual({ ...unchanged, brightness: 0 });
    expect(Math.max(...drawn.map((one) => Math.abs(one.rotationDegrees)))).toBeLessThanOrEqual(8);
    expect(Math.max(...drawn.map((one) => Math.abs(one.rotationDegrees)))).toBeGreaterThan(6);
    expect(Math.max(...drawn.map((one) => Math.abs(one.zoom - 1)))).toBeLessThanOrEqual(0.08);
    const sharp = drawn.filter((one) => one.blur === 0).length;
    expect(sharp).toBeGreaterThan(70);
    expect(sharp).toBeLessThan(130);
    const flips = drawn.filter((one) => one.flip).length;
    expect(flips).toBeGreaterThan(70);
    expect(flips).toBeLessThan(130);
  });

  test('changing one leaves the others as they were drawn', () => {
    const still = { ...strengths, rotationDegrees: 0 };
    const { rotationDegrees, ...others } = drawAugmentation(createRandom(8), strengths);

    expect(rotationDegrees).not.toBe(0);
    expect(drawAugmentation(createRandom(8), still)).toEqual({ ...others, rotationDegrees: 0 });
  });

  test('the setting is off, on with the defaults, or strengths of its own', () => {
    expect(augmentationOf(false)).toBeUndefined();
    expect(augmentationOf(true)).toEqual(strengths);
    expect(augmentationOf({ ...strengths, blur: 0 })).toEqual({ ...strengths, blur: 0 });
  });
});
