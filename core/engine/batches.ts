/** Which images a run shows in which order, and how a batch is cut into parts that fit the memory. */
import type { AugmentationSettings } from '../config/local-training.ts';
import { createRandom, mixSeed } from '../shared/random.ts';
import { type Augmentation, drawAugmentation } from './augmentation.ts';

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
  /** Strengths of the random changes; none when absent. */
  augmentation?: AugmentationSettings | undefined;
}

/** Steps that {@link drawBatches} makes. */
export function countSteps({
  examples,
  epochs,
  batchSize,
}: Pick<DrawOptions, 'examples' | 'epochs' | 'batchSize'>): number {
  return Math.ceil(Math.round(examples * epochs) / batchSize);
}

/**
 * Shuffles each epoch anew and cuts the row of epochs into batches, so that every batch but the very
 * last is full. The same seed gives the same draws; a run that resumes draws them again and skips what is done.
 */
export function* drawBatches(options: DrawOptions): Generator<Draw[]> {
  const { examples, epochs, batchSize, seed, augmentation } = options;
  const total = Math.round(examples * epochs);
  const random = createRandom(mixSeed(seed, 'augment'));
  let batch: Draw[] = [];
  for (let drawn = 0, epoch = 0; drawn < total; epoch++) {
    const shuffled = createRandom(mixSeed(seed, 'epoch', epoch)).shuffle([...Array(examples).keys()]);
    for (const index of shuffled.slice(0, total - drawn)) {
      batch.push({ index, augmentation: augmentation && drawAugmentation(random, augmentation) });
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

/** A part of a batch that is computed at once. */
export interface MicroBatch {
  draws: readonly Draw[];
  /** Weights of the draws' losses; over all parts of a batch they sum to 1. */
  weights: readonly number[];
  /** Place of the first draw in the batch. */
  offset: number;
  /** Images of the whole batch. */
  batchLength: number;
  /** Whether the batch ends with this part. */
  last: boolean;
}

/**
 * Cuts a batch into parts of `size` draws, the last one perhaps shorter; none is empty.
 * @param weightOf how much a draw counts against the others; positive
 */
export function cutBatch(
  batch: readonly Draw[],
  size: number,
  weightOf: (draw: Draw) => number,
): MicroBatch[] {
  const weights = batch.map(weightOf);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const parts: MicroBatch[] = [];
  for (let offset = 0; offset < batch.length; offset += size) {
    const end = Math.min(batch.length, offset + size);
    parts.push({
      draws: batch.slice(offset, end),
      weights: weights.slice(offset, end).map((weight) => weight / total),
      offset,
      batchLength: batch.length,
      last: end === batch.length,
    });
  }
  return parts;
}
