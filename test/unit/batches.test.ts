import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Augmentation,
  drawAugmentation,
  writeAugmentedPlanes,
  writePlanes,
} from '../../core/engine/augmentation.ts';
import {
  countSteps,
  createBatchFiller,
  createCropCache,
  drawBatches,
  sequentialBatches,
} from '../../core/engine/batches.ts';
import { createRandom } from '../../core/shared/random.ts';

const side = 6;
const unchanged: Augmentation = {
  flip: false,
  rotationDegrees: 0,
  shiftX: 0,
  shiftY: 0,
  zoom: 1,
  brightness: 0,
  contrast: 1,
};

function randomCrop(seed: number): Uint8Array {
  const random = createRandom(seed);
  return Uint8Array.from({ length: 3 * side * side }, () => random.integer(256));
}

function augmented(crop: Uint8Array, change: Partial<Augmentation>): Float32Array {
  const target = new Float32Array(crop.length);
  writeAugmentedPlanes(crop, side, { ...unchanged, ...change }, target);
  return target;
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-batches-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function writeCrop(name: string, crop: Uint8Array, width = side): Promise<string> {
  const file = path.join(folder, name);
  await sharp(crop, { raw: { width, height: crop.length / 3 / width, channels: 3 } })
    .png()
    .toFile(file);
  return file;
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

  test('a shift by a whole pixel moves the picture and repeats its edge', () => {
    const crop = randomCrop(4);
    const plain = augmented(crop, {});

    const shifted = augmented(crop, { shiftX: 1 / side });

    for (let x = 1; x < side; x++) expect(shifted[x]).toBeCloseTo(plain[x - 1]!, 3);
    expect(shifted[0]).toBeCloseTo(plain[0]!, 3);
  });

  test('a quarter turn turns the picture', () => {
    const crop = randomCrop(5);
    const plain = augmented(crop, {});

    const turned = augmented(crop, { rotationDegrees: 90 });

    // Row y, column x of the turned picture comes from row (last - x), column y, or its opposite corner.
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
    expect(drawAugmentation(createRandom(5))).toEqual(drawAugmentation(createRandom(5)));
    expect(drawAugmentation(createRandom(5))).not.toEqual(drawAugmentation(createRandom(6)));
  });
});

describe('drawBatches', () => {
  const options = { examples: 10, epochs: 3, batchSize: 4, seed: 1, augment: true };

  test('shows every example once per epoch, in full batches but for the last', () => {
    const batches = [...drawBatches(options)];

    expect(batches.map((batch) => batch.length)).toEqual([4, 4, 4, 4, 4, 4, 4, 2]);
    expect(batches.length).toBe(countSteps(options));
    const indices = batches.flat().map((draw) => draw.index);
    for (let epoch = 0; epoch < 3; epoch++) {
      expect(indices.slice(10 * epoch, 10 * epoch + 10).sort((a, b) => a - b)).toEqual([...Array(10).keys()]);
    }
    expect(indices.slice(0, 10)).not.toEqual(indices.slice(10, 20));
  });

  test('repeats with the same seed and differs with another', () => {
    expect([...drawBatches(options)]).toEqual([...drawBatches(options)]);
    expect([...drawBatches({ ...options, seed: 2 })]).not.toEqual([...drawBatches(options)]);
  });

  test('takes parts of epochs', () => {
    const batches = [...drawBatches({ ...options, epochs: 0.5 })];
    expect(batches.flat()).toHaveLength(5);
    expect(batches).toHaveLength(countSteps({ ...options, epochs: 0.5 }));
  });

  test('sequentialBatches keeps the order', () => {
    expect([...sequentialBatches(5, 2)].map((batch) => batch.map((draw) => draw.index))).toEqual([
      [0, 1],
      [2, 3],
      [4],
    ]);
  });
});

describe('crops', () => {
  test('are decoded as they were stored and read from memory the second time', async () => {
    const crop = randomCrop(8);
    const file = await writeCrop('kept.png', crop);
    const cache = createCropCache(1e6);
    const first = await cache.read(file, side);
    await rm(file);

    expect([...first]).toEqual([...crop]);
    expect(await cache.read(file, side)).toBe(first);
  });

  test('the least recently used goes when memory is short', async () => {
    const files = await Promise.all([1, 2, 3].map((n) => writeCrop(`lru${n}.png`, randomCrop(n))));
    const cache = createCropCache(2 * 3 * side * side);
    const first = await cache.read(files[0]!, side);
    await cache.read(files[1]!, side);
    await cache.read(files[0]!, side);
    await cache.read(files[2]!, side);

    expect(cache.sizeBytes).toBe(2 * 3 * side * side);
    expect(await cache.read(files[0]!, side)).toBe(first);
    await rm(files[1]!);
    await expect(cache.read(files[1]!, side)).rejects.toMatchObject({ code: 'IMAGE_UNREADABLE' });
  });

  test('of another size are refused', async () => {
    const file = await writeCrop('wide.png', new Uint8Array(3 * 4 * 8), 8);
    await expect(createCropCache(1e6).read(file, side)).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' });
  });

  test('a short batch is filled up with samples of weight 0', async () => {
    const file = await writeCrop('one.png', randomCrop(9));
    const filler = createBatchFiller(2, side);
    const crops = createCropCache(1e6);
    const full = [
      { index: 0, augmentation: undefined },
      { index: 0, augmentation: undefined },
    ];
    await filler.fill(full, [{ file, label: 3 }], crops);

    const feeds = await filler.fill(full.slice(1), [{ file, label: 3 }], crops);

    expect([...feeds.sampleWeights.data]).toEqual([1, 0]);
    expect([...feeds.labels.data]).toEqual([3n, 0n]);
    expect(Math.max(...feeds.pixels.data.subarray(3 * side * side))).toBe(0);
    expect(feeds.pixels.data[0]).toBe(randomCrop(9)[0]);
  });
});
