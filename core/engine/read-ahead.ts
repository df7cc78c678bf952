/** Pixels of the next batches are prepared while the present one is computed. */
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import type { CropShape } from './crops.ts';
import type { PixelSample, PixelSource } from './pixel-source.ts';

export interface ReadAheadShape {
  /** What is cut out of each face. */
  crop: CropShape;
  /** Images in a tensor; fewer samples leave zeros behind them. */
  slots: number;
  /** Batches that are asked for in quick succession; 1 when absent. */
  together?: number;
}

/** So few batches ahead keep the memory small; several short ones even out what a slow image costs. */
const imagesAhead = 8;
const fewestBatchesAhead = 2;

/**
 * Gives each batch with its `pixels` [slots, 3, side, side]. The tensor's memory is used again once the next
 * batch is asked for.
 * @throws AppError what {@link PixelSource.fill} throws
 */
export async function* readAhead<Batch>(
  source: PixelSource,
  batches: Iterable<Batch>,
  samplesOf: (batch: Batch) => readonly PixelSample[],
  { crop, slots, together = 1 }: ReadAheadShape,
): AsyncGenerator<{ batch: Batch; pixels: FloatTensor }> {
  const { side } = crop;
  const iterator = batches[Symbol.iterator]();
  const ahead = Math.max(fewestBatchesAhead, together, Math.ceil(imagesAhead / slots));
  const pending: { batch: Batch; filled: Promise<Float32Array<ArrayBuffer>> }[] = [];
  const free: Float32Array<ArrayBuffer>[] = [];

  function request(): void {
    const next = iterator.next();
    if (next.done === true) return;
    const buffer = free.pop() ?? new Float32Array(slots * 3 * side * side);
    const filled = source.fill(samplesOf(next.value), crop, buffer);
    // Looked at when its turn comes, which may be never.
    filled.catch(() => {});
    pending.push({ batch: next.value, filled });
  }

  try {
    for (let i = 0; i <= ahead; i++) request();
    for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
      const buffer = await next.filled;
      yield { batch: next.batch, pixels: floatTensor([slots, 3, side, side], buffer) };
      free.push(buffer);
      request();
    }
  } finally {
    await Promise.allSettled(pending.map(({ filled }) => filled));
    iterator.return?.();
  }
}
