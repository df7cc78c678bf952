/** Embeddings of squares, for evaluations that compare faces with each other. */
import type { BaseModel } from '../models/base-model.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { writePlanes } from './augmentation.ts';
import type { DeviceKind, Executable } from './engine.ts';
import { loadEngine } from './engines.ts';

export interface EmbeddingOptions {
  /** The mean with the mirrored picture's embedding, as evaluations of face networks are done; see {@link averaged}. */
  flip: boolean;
  device?: DeviceKind;
  threads?: number;
}

const batch = 16;

/**
 * Embeddings of length 1 by the base model as it is.
 * @param squares RGB bytes [side, side, 3], as core/data/face-region.ts cuts them
 * @throws AppError TRAINING_FAILED | DEVICE_UNAVAILABLE
 */
export async function embedSquares(
  base: BaseModel,
  squares: readonly Uint8Array[],
  { flip, device = 'cpu', threads }: EmbeddingOptions,
): Promise<Float32Array[]> {
  const engine = await loadEngine('onnxruntime');
  const executable = await engine.compile(base.buildGraph(batch), {
    device,
    ...(threads === undefined ? {} : { threads }),
  });
  try {
    const found: Float32Array[] = [];
    for (let first = 0; first < squares.length; first += batch) {
      const own = squares.slice(first, first + batch);
      const plain = await embed(base, executable, own, false);
      const mirrored = flip ? await embed(base, executable, own, true) : null;
      found.push(...plain.map((embedding, index) => averaged(embedding, mirrored?.[index])));
    }
    return found;
  } finally {
    await executable.release();
  }
}

/**
 * The embedding at length 1; with the mirrored picture's, the mean of both at length 1, itself at length 1. A face and its mirror
 * image are the same person, and the mean has less of what depends on the side.
 */
export function averaged(embedding: Float32Array, mirrored?: Float32Array): Float32Array {
  const own = atLengthOne(embedding);
  if (mirrored === undefined) return own;
  const other = atLengthOne(mirrored);
  return atLengthOne(own.map((value, index) => value + other[index]!));
}

/** All zeros stay zeros. */
function atLengthOne(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const factor = squares > 0 ? 1 / Math.sqrt(squares) : 0;
  return vector.map((value) => value * factor);
}

async function embed(
  { inputSize: side, embeddingSize }: BaseModel,
  executable: Executable,
  squares: readonly Uint8Array[],
  mirrored: boolean,
): Promise<Float32Array[]> {
  const values = 3 * side * side;
  const pixels = floatTensor([batch, 3, side, side]);
  for (const [slot, square] of squares.entries()) {
    const planes = pixels.data.subarray(slot * values, (slot + 1) * values);
    writePlanes(square, side, planes);
    if (mirrored) mirrorPlanes(planes, side);
  }
  const { data } = (await executable.run({ pixels }))['embedding'] as FloatTensor;
  return squares.map((_, slot) => data.slice(slot * embeddingSize, (slot + 1) * embeddingSize));
}

/** Left becomes right, in place. @param planes [..., side, side] */
export function mirrorPlanes(planes: Float32Array, side: number): void {
  for (let row = 0; row < planes.length; row += side) planes.subarray(row, row + side).reverse();
}
