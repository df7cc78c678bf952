/** From crop files to batches of pixels: decoded once, kept in bounded memory, shuffled by a seed. */
import sharp from 'sharp';
import { AppError } from '../shared/errors.ts';
import { createRandom, mixSeed } from '../shared/random.ts';
import { floatTensor, type Tensor } from '../shared/tensor.ts';
import { type Augmentation, drawAugmentation, writeAugmentedPlanes, writePlanes } from './augmentation.ts';
import type { Example } from './trainer-protocol.ts';

export interface CropCache {
  /**
   * RGB bytes [side, side, 3] of a crop.
   * @throws AppError IMAGE_UNREADABLE | SHAPE_MISMATCH
   */
  read(file: string, side: number): Promise<Uint8Array>;
  readonly sizeBytes: number;
}

/** Keeps decoded crops by file; the least recently used go first when `maxBytes` is passed. */
export function createCropCache(maxBytes: number): CropCache {
  const crops = new Map<string, Uint8Array>();
  let sizeBytes = 0;
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    async read(file, side) {
      const known = crops.get(file);
      if (known?.length === 3 * side * side) {
        crops.delete(file);
        crops.set(file, known);
        return known;
      }
      const crop = await decodeCrop(file, side);
      sizeBytes += crop.length - (crops.get(file)?.length ?? 0);
      crops.delete(file);
      crops.set(file, crop);
      for (const [oldest, bytes] of crops) {
        if (sizeBytes <= maxBytes || oldest === file) break;
        crops.delete(oldest);
        sizeBytes -= bytes.length;
      }
      return crop;
    },
  };
}

async function decodeCrop(file: string, side: number): Promise<Uint8Array> {
  try {
    const { data, info } = await sharp(file, { limitInputPixels: 4096 * 4096 })
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    if (info.width !== side || info.height !== side || info.channels !== 3) {
      throw new AppError(
        'SHAPE_MISMATCH',
        `A face crop has ${info.width}×${info.height} pixels; this base model takes ${side}×${side}.`,
      );
    }
    return data;
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError('IMAGE_UNREADABLE', 'A face crop of this dataset cannot be read.', {
      action: 'Import the images again.',
      cause,
    });
  }
}

/** One sample of a batch. */
export interface Draw {
  /** Index into the examples. */
  index: number;
  augmentation: Augmentation | undefined;
}

export interface DrawOptions {
  examples: number;
  epochs: number;
  batchSize: number;
  seed: number;
  augment: boolean;
}

/** Steps that {@link drawBatches} makes. */
export function countSteps({ examples, epochs, batchSize }: Omit<DrawOptions, 'seed' | 'augment'>): number {
  return Math.ceil(Math.round(examples * epochs) / batchSize);
}

/**
 * Shuffles each epoch anew and cuts the row of epochs into batches, so that every batch but the very
 * last is full. The same seed gives the same draws.
 */
export function* drawBatches(options: DrawOptions): Generator<Draw[]> {
  const { examples, epochs, batchSize, seed, augment } = options;
  const total = Math.round(examples * epochs);
  const random = createRandom(mixSeed(seed, 'augment'));
  let batch: Draw[] = [];
  for (let drawn = 0, epoch = 0; drawn < total; epoch++) {
    const shuffled = createRandom(mixSeed(seed, 'epoch', epoch)).shuffle([...Array(examples).keys()]);
    for (const index of shuffled.slice(0, total - drawn)) {
      batch.push({ index, augmentation: augment ? drawAugmentation(random) : undefined });
      if (batch.length === batchSize) {
        yield batch;
        batch = [];
      }
    }
    drawn += shuffled.length;
  }
  if (batch.length > 0) yield batch;
}

/** Consecutive draws without augmentation; for evaluation. */
export function* sequentialBatches(examples: number, batchSize: number): Generator<Draw[]> {
  for (let start = 0; start < examples; start += batchSize) {
    const size = Math.min(batchSize, examples - start);
    yield Array.from({ length: size }, (_, i) => ({ index: start + i, augmentation: undefined }));
  }
}

/** Feeds of the training graph; a short batch is filled up with samples of weight 0. */
export interface BatchFeeds {
  /** [batch, 3, side, side], 0…255 */
  pixels: Tensor<'float32'>;
  /** [batch] */
  labels: Tensor<'int64'>;
  /** [batch], of sum 1 */
  sampleWeights: Tensor<'float32'>;
}

/** A batch's buffers, filled again for every step. */
export function createBatchFiller(batchSize: number, side: number) {
  const sampleSize = 3 * side * side;
  const feeds: BatchFeeds = {
    pixels: floatTensor([batchSize, 3, side, side]),
    labels: { dtype: 'int64', dims: [batchSize], data: new BigInt64Array(batchSize) },
    sampleWeights: floatTensor([batchSize]),
  };

  /** Labels and weights alone. */
  function fillLabels(draws: readonly Draw[], examples: readonly Example[]): Omit<BatchFeeds, 'pixels'> {
    for (let slot = 0; slot < batchSize; slot++) {
      const draw = draws[slot];
      feeds.sampleWeights.data[slot] = draw ? 1 / draws.length : 0;
      feeds.labels.data[slot] = draw ? BigInt(examples[draw.index]!.label) : 0n;
    }
    return { labels: feeds.labels, sampleWeights: feeds.sampleWeights };
  }

  /** @throws AppError IMAGE_UNREADABLE | SHAPE_MISMATCH */
  async function fill(
    draws: readonly Draw[],
    examples: readonly Example[],
    crops: CropCache,
  ): Promise<BatchFeeds> {
    fillLabels(draws, examples);
    for (let slot = 0; slot < batchSize; slot++) {
      const draw = draws[slot];
      const planes = feeds.pixels.data.subarray(slot * sampleSize, (slot + 1) * sampleSize);
      if (!draw) {
        planes.fill(0);
        continue;
      }
      const crop = await crops.read(examples[draw.index]!.file, side);
      if (draw.augmentation) writeAugmentedPlanes(crop, side, draw.augmentation, planes);
      else writePlanes(crop, side, planes);
    }
    return feeds;
  }
  return { fill, fillLabels };
}
