/** Samples to pixels. */
import { writeAugmentedPlanes, writePlanes } from './augmentation.ts';
import type { CropCache, CropShape } from './crops.ts';
import type { PixelSample } from './pixel-source.ts';

/**
 * Writes samples one after the other as planes [3, side, side] of 0…255; the rest of the buffer becomes 0.
 * Crops that have to be scaled are so all at once, in the threads of the image library.
 * @throws AppError IMAGE_UNREADABLE | BLOB_CORRUPT
 */
export async function fillPixels(
  samples: readonly PixelSample[],
  shape: CropShape,
  crops: CropCache,
  buffer: Float32Array,
): Promise<void> {
  const { side } = shape;
  const size = 3 * side * side;
  const write = async ({ file, sha256, augmentation }: PixelSample, slot: number) => {
    const crop = await crops.read(file, shape, sha256);
    const planes = buffer.subarray(slot * size, (slot + 1) * size);
    if (augmentation === undefined) writePlanes(crop, side, planes);
    else writeAugmentedPlanes(crop, side, augmentation, planes);
  };
  const written = await Promise.allSettled(samples.map(write));
  const failed = written.find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  buffer.fill(0, samples.length * size);
}
