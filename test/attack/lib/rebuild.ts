/** What can be rebuilt of a site's images from what left it, and what it is compared with. */
import path from 'node:path';
import { createCropCache, cropShapeOf } from '../../../core/engine/crops.ts';
import { fillPixels } from '../../../core/engine/fill-pixels.ts';
import type { ModelState } from '../../../core/lora/model-state.ts';
import type { BaseModel } from '../../../core/models/base-model.ts';
import { createBlobStore } from '../../../core/store/blobs.ts';
import type { Split } from '../../../core/store/records.ts';
import { openReadOnlyStore } from '../../../core/store/store.ts';
import { runBase } from '../../fixtures/onnx-files.ts';

/** Faces of one class as the base model sees them: planes of 0…255, [3, side, side]. */
export async function pixelsOf(
  base: BaseModel,
  dataFolder: string,
  label: string,
  split: Split,
): Promise<Float32Array[]> {
  const store = openReadOnlyStore(path.join(dataFolder, 'anneal.db'));
  const blobs = createBlobStore(path.join(dataFolder, 'blobs'));
  const crops = createCropCache(2 ** 28);
  try {
    const images = store.images.list({ split, status: 'ready' }).filter((image) => image.label === label);
    return await Promise.all(
      images.map(async ({ cropSha256 }) => {
        const planes = new Float32Array(3 * base.inputSize ** 2);
        const sample = { file: blobs.path(cropSha256!), augmentation: undefined };
        await fillPixels([sample], cropShapeOf(base), crops, planes);
        return planes;
      }),
    );
  } finally {
    store.close();
  }
}

/** The network's output for each image. */
export async function templatesOf(base: BaseModel, images: readonly Float32Array[]): Promise<Float32Array[]> {
  const joined = new Float32Array(images.flatMap((image) => [...image]));
  const all = await runBase(base, joined, images.length);
  const size = all.length / images.length;
  return images.map((_, index) => all.slice(index * size, (index + 1) * size));
}

/**
 * The image of a class as its network sees it, from the change of the classifier: for a single image the gradient of the
 * weights is the embedding times the gradient of the bias (Zhu et al. 2019, arXiv 1906.08935, and many after them).
 */
export function embeddingIn(update: ModelState, start: ModelState, classIndex: number): Float32Array {
  const change = (name: string) => {
    const [after, before] = [update.head.get(name)!.data, start.head.get(name)!.data];
    return after.map((value, index) => value - before[index]!);
  };
  const [weight, bias] = [change('weight'), change('bias')];
  const width = weight.length / bias.length;
  return weight.slice(classIndex * width, (classIndex + 1) * width).map((value) => value / bias[classIndex]!);
}

export function meanOf(rows: readonly Float32Array[]): Float32Array {
  return rows[0]!.map((_, index) => rows.reduce((sum, row) => sum + row[index]!, 0) / rows.length);
}
