import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { augmentationSettingsSchema } from '../../core/config/local-training.ts';
import { decodeCrop, encodeCrop } from '../../core/data/crop-file.ts';
import { drawAugmentation } from '../../core/engine/augmentation.ts';
import { type CropShape, createCropCache } from '../../core/engine/crops.ts';
import { fillPixels } from '../../core/engine/fill-pixels.ts';
import { createPixelSource, type PixelSample, type PixelSource } from '../../core/engine/pixel-source.ts';
import { readAhead } from '../../core/engine/read-ahead.ts';
import { encodeRawSafetensors } from '../../core/lora/safetensors-writer.ts';
import { createRandom } from '../../core/shared/random.ts';
import { elementCount } from '../../core/shared/tensor.ts';

const side = 6;
const sampleSize = 3 * side * side;
const shape: CropShape = { side, alignment: 'dlib-150' };
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-pixels-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function randomCrop(seed: number): Uint8Array {
  const random = createRandom(seed);
  return Uint8Array.from({ length: sampleSize }, () => random.integer(256));
}

async function writeCrop(name: string, crop: Uint8Array, width = side): Promise<string> {
  const file = path.join(folder, name);
  await sharp(crop, { raw: { width, height: crop.length / 3 / width, channels: 3 } })
    .png()
    .toFile(file);
  return file;
}

describe('crops', () => {
  test('are decoded as they were stored and read from memory the second time', async () => {
    const crop = randomCrop(8);
    const file = await writeCrop('kept.png', crop);
    const cache = createCropCache(1e6);
    const first = await cache.read(file, shape);
    await rm(file);

    expect([...first]).toEqual([...crop]);
    expect(await cache.read(file, shape)).toBe(first);
  });

  test('the least recently used goes when memory is short', async () => {
    const files = await Promise.all([1, 2, 3].map((n) => writeCrop(`lru${n}.png`, randomCrop(n))));
    const cache = createCropCache(2 * sampleSize);
    const first = await cache.read(files[0]!, shape);
    await cache.read(files[1]!, shape);
    await cache.read(files[0]!, shape);
    await cache.read(files[2]!, shape);

    expect(cache.sizeBytes).toBe(2 * sampleSize);
    expect(await cache.read(files[0]!, shape)).toBe(first);
    await rm(files[1]!);
    await expect(cache.read(files[1]!, shape)).rejects.toMatchObject({ code: 'IMAGE_UNREADABLE' });
  });

  test('of another size are scaled to what the model takes', async () => {
    // A ramp stays a ramp under any sound scaling.
    const large = 60;
    const ramp = Uint8Array.from({ length: 3 * large * large }, (_, i) => 4 * (Math.floor(i / 3) % large));
    const file = await writeCrop('ramp.png', ramp, large);

    const crop = await createCropCache(1e6).read(file, { ...shape, side: 20 });

    expect(crop).toHaveLength(3 * 20 * 20);
    const row = Array.from({ length: 20 }, (_, x) => crop[3 * (10 * 20 + x)]!);
    for (let x = 2; x < 18; x++) expect(Math.abs(row[x]! - 4 * (3 * x + 1))).toBeLessThanOrEqual(1);
  });

  test('that are no square keep their middle', async () => {
    const wide = Uint8Array.from({ length: 3 * 6 * 18 }, (_, i) => {
      const x = Math.floor(i / 3) % 18;
      return x < 6 || x >= 12 ? 0 : 200;
    });
    const file = await writeCrop('wide.png', wide, 18);

    expect([...(await createCropCache(1e6).read(file, shape))]).toEqual(Array(sampleSize).fill(200));
  });

  test.each([
    [
      'as imports write them',
      async (crop: Uint8Array) => encodeCrop({ width: side, height: side, data: crop }),
    ],
    [
      'as imports once wrote them',
      (crop: Uint8Array) =>
        sharp(crop, { raw: { width: side, height: side, channels: 3 } })
          .png()
          .toBuffer(),
    ],
  ])('%s give their pixels, and an error when cut short', async (_, encode) => {
    const crop = randomCrop(5);
    const whole = await encode(crop);
    const file = path.join(folder, 'cut.crop');
    const readBack = async (bytes: Uint8Array) => {
      await writeFile(file, bytes);
      return createCropCache(1e6).read(file, shape);
    };

    expect([...(await readBack(whole))]).toEqual([...crop]);
    for (const length of [whole.length >> 1, 40, 3, 0])
      await expect(readBack(whole.subarray(0, length))).rejects.toMatchObject({ code: 'IMAGE_UNREADABLE' });
  });

  test.each([
    ['another tensor', [{ name: 'crop' }]],
    ['two tensors', [{}, { name: 'more' }]],
    ['four channels', [{ dims: [side, side, 4] }]],
    ['a flat tensor', [{ dims: [3 * side * side] }]],
    ['signed values', [{ dtype: 'I8' as const }]],
  ])('a file with %s is no crop', (_, others) => {
    const tensors = others.map((other) => {
      const tensor = { name: 'pixels', dtype: 'U8' as const, dims: [side, side, 3], ...other };
      return { ...tensor, bytes: new Uint8Array(elementCount(tensor.dims)) };
    });

    expect(() => decodeCrop(encodeRawSafetensors(tensors, {}), 'a.crop')).toThrow(
      expect.objectContaining({
        code: 'MODEL_FILE_INVALID',
        message: 'The file "a.crop" does not hold one RGB image.',
      }),
    );
  });

  test('grey and transparent images become RGB', async () => {
    const file = path.join(folder, 'grey.png');
    await sharp(new Uint8Array(side * side).fill(77), { raw: { width: side, height: side, channels: 1 } })
      .png()
      .toFile(file);

    expect([...(await createCropCache(1e6).read(file, shape))]).toEqual(Array(sampleSize).fill(77));
  });
});

describe('the worker thread', () => {
  let source: PixelSource;
  afterEach(() => source.close());

  test('gives bit for bit what the same samples give on this thread', async () => {
    source = createPixelSource(1e6);
    const random = createRandom(1);
    const settings = augmentationSettingsSchema.parse({ blur: 0.05 });
    const samples: PixelSample[] = [];
    for (let i = 0; i < 5; i++) {
      const file = await writeCrop(`worker${i}.png`, randomCrop(i));
      samples.push({ file, augmentation: i % 2 === 0 ? undefined : drawAugmentation(random, settings) });
    }
    const expected = new Float32Array(6 * sampleSize).fill(9);
    await fillPixels(samples, shape, createCropCache(1e6), expected);

    const filled = await source.fill(samples, shape, new Float32Array(6 * sampleSize).fill(5));

    expect(Buffer.from(filled.buffer).equals(Buffer.from(expected.buffer))).toBe(true);
    expect(Math.max(...filled.subarray(5 * sampleSize))).toBe(0);
  });

  test('names an unreadable crop without its path and serves the next request', async () => {
    source = createPixelSource(1e6);
    const broken = path.join(folder, 'broken.png');
    await writeFile(broken, 'no image');
    const file = await writeCrop('sound.png', randomCrop(3));
    const fill = (name: string) =>
      source.fill([{ file: name, augmentation: undefined }], shape, new Float32Array(sampleSize));

    const failure = await fill(broken).catch((error) => error);

    expect(failure).toMatchObject({ code: 'IMAGE_UNREADABLE' });
    expect(failure.message).not.toContain('broken');
    expect((await fill(file))[0]).toBe(randomCrop(3)[0]);
  });

  test('ends what waits when it is closed', async () => {
    source = createPixelSource(1e6);
    const file = await writeCrop('late.png', randomCrop(3));
    const filling = source.fill([{ file, augmentation: undefined }], shape, new Float32Array(sampleSize));
    const outcome = expect(filling).rejects.toMatchObject({ code: 'TRAINING_FAILED' });
    await source.close();
    await outcome;
  });
});

describe('readAhead', () => {
  test('keeps the order, asks no more than it needs ahead and takes few buffers', async () => {
    const asked: number[] = [];
    const buffers = new Set<ArrayBuffer>();
    // A stand-in for the worker that answers late and out of order.
    const source: PixelSource = {
      async fill(samples, _shape, buffer) {
        const number = Number(samples[0]!.file);
        asked.push(number);
        buffers.add(buffer.buffer);
        await new Promise((resolve) => setTimeout(resolve, number % 2 === 0 ? 5 : 1));
        buffer[0] = number;
        return buffer;
      },
      async close() {},
    };
    const batches = Array.from({ length: 20 }, (_, number) => number);
    const seen: number[] = [];
    const samplesOf = (number: number) => [{ file: String(number), augmentation: undefined }];
    for await (const { batch, pixels } of readAhead(source, batches, samplesOf, {
      crop: { ...shape, side: 2 },
      slots: 8,
    })) {
      seen.push(pixels.data[0]!);
      expect(pixels.dims).toEqual([8, 3, 2, 2]);
      expect(asked.length).toBeLessThanOrEqual(batch + 3);
    }

    expect(seen).toEqual(batches);
    expect(buffers.size).toBeLessThanOrEqual(4);
  });

  test('a failure comes when its batch is due', async () => {
    const source: PixelSource = {
      fill: async ([sample], _shape, buffer) => {
        if (sample!.file === '2') throw new Error('batch 2');
        return buffer;
      },
      async close() {},
    };
    const seen: number[] = [];
    const run = async () => {
      const samplesOf = (number: number) => [{ file: String(number), augmentation: undefined }];
      for await (const { batch } of readAhead(source, [0, 1, 2, 3], samplesOf, {
        crop: { ...shape, side: 2 },
        slots: 8,
      }))
        seen.push(batch);
    };

    await expect(run()).rejects.toThrow('batch 2');
    expect(seen).toEqual([0, 1]);
  });
});
