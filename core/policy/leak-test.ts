/**
 * How much of an image a base model's embedding gives away. A head's update carries embeddings, so whoever has the
 * updates can look at what a decoder makes of them. Here the decoder is linear, fitted on invented faces and judged on
 * others of them. It finds what a network passes on as it is; a network built to get through can do so
 * (docs/models.md).
 */
import { type LeakReport, leakTestVersion } from '../config/leak-report.ts';
import { fitToSquare } from '../data/decode.ts';
import { loadEngine } from '../engine/engines.ts';
import { createOnnxRuntimeProducts } from '../engine/onnxruntime/matrix-products.ts';
import { countLayers } from '../graph/count-layers.ts';
import type { BaseModel } from '../models/base-model.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { checkedFaces, requireDifferences } from './embedding-check.ts';
import { correlationOf, type Rebuilt, rebuildHeldOut, similarityOf } from './leak-test-decoder.ts';
import { drawLeakFaces, faceSide, type LeakFaces, targetSide } from './leak-test-faces.ts';
import type { LeakProgress } from './leak-test-protocol.ts';

/** 800 faces instead of 512 raise every figure by 0.03 to 0.09, of networks that compress and of those that don't. */
const split = { fitted: 352, tuning: 48 };
const heldOutFaces = 112;
const faceCount = split.fitted + split.tuning + heldOutFaces;
const batchSize = 8;
/** Numbers of an embedding that the decoder reads, evenly spread over a wider one: 134 MB for all faces. */
const mostNumbers = 65_536;

/**
 * Takes seconds for a network of the size of face-resnet-128, minutes for a large vision transformer: 512 forward
 * passes. Computes in this process and keeps it busy; see leak-test-process.ts.
 * @throws AppError TRAINING_FAILED when the network does not run, MODEL_UNSUITABLE when its embeddings hardly differ or are no numbers
 */
export async function measureLeak(
  base: BaseModel,
  onProgress: (progress: LeakProgress) => void = () => {},
): Promise<LeakReport> {
  const faces = await drawLeakFaces(faceCount, (done) =>
    onProgress({ step: 'drawing faces', share: (0.3 * done) / faceCount }),
  );
  const embeddings = await embed(base, faces, (done) =>
    onProgress({ step: 'computing embeddings', share: 0.3 + (0.6 * done) / faceCount }),
  );
  onProgress({ step: 'rebuilding faces', share: 0.9 });
  const { count, targets: images } = faces;
  const embeddingLength = meanLength(embeddings.subarray(0, checkedFaces * widthOf(base)), base);
  const rebuilt = await rebuildHeldOut({ count, embeddings, images }, split, createOnnxRuntimeProducts());
  return {
    testVersion: leakTestVersion,
    ...score(rebuilt, images.subarray((faceCount - heldOutFaces) * targetSide ** 2)),
    embeddingSize: base.embeddingSize,
    inputValues: 3 * base.inputSize ** 2,
    layers: countLayers(base.buildGraph(1)),
    heldOutFaces,
    ...(embeddingLength > 0 && { embeddingLength }),
  };
}

/**
 * How long an embedding of a face is, from a few of the invented ones: what a head that starts from class means is scaled by. A
 * second or two in this process.
 * @throws AppError TRAINING_FAILED when the network does not run, MODEL_UNSUITABLE when its embeddings hardly differ or are no numbers
 */
export async function measureEmbeddingLength(base: BaseModel): Promise<number> {
  const faces = await drawLeakFaces(checkedFaces, () => {});
  return meanLength(await embed(base, faces, () => {}), base);
}

/** In three digits: more would differ from processor to processor. */
function meanLength(embeddings: Float32Array, base: BaseModel): number {
  const width = widthOf(base);
  let sum = 0;
  for (let start = 0; start < embeddings.length; start += width)
    sum += Math.hypot(...embeddings.subarray(start, start + width));
  // Of a wide one evenly spread numbers are known.
  const whole = Math.sqrt(base.embeddingSize / width);
  return Number(((whole * sum * width) / embeddings.length).toPrecision(3));
}

const widthOf = ({ embeddingSize }: BaseModel): number => Math.min(embeddingSize, mostNumbers);

function score(
  { images, meanFace }: Rebuilt,
  originals: Float64Array,
): Pick<LeakReport, 'correlation' | 'ssim' | 'meanFaceSsim'> {
  const pixels = meanFace.length;
  let [correlation, ssim, meanFaceSsim] = [0, 0, 0];
  const deviation = (image: Float64Array) => image.map((value, at) => value - meanFace[at]!);
  for (let start = 0; start < originals.length; start += pixels) {
    const original = originals.subarray(start, start + pixels);
    const image = images.subarray(start, start + pixels);
    correlation += correlationOf(deviation(image), deviation(original));
    ssim += similarityOf(image, original);
    meanFaceSsim += similarityOf(meanFace, original);
  }
  // More digits would differ from processor to processor.
  const mean = (sum: number) => Number((sum / heldOutFaces).toFixed(3));
  return { correlation: mean(correlation), ssim: mean(ssim), meanFaceSsim: mean(meanFaceSsim) };
}

/** Embeddings of all faces, row after row, at most {@link mostNumbers} of each. */
async function embed(
  base: BaseModel,
  faces: LeakFaces,
  onDone: (done: number) => void,
): Promise<Float32Array> {
  const { embeddingSize, inputSize } = base;
  const width = widthOf(base);
  const embeddings = new Float32Array(faces.count * width);
  const engine = await loadEngine('onnxruntime');
  const executable = await engine.compile(base.buildGraph(batchSize), { device: 'cpu' });
  try {
    for (let first = 0; first < faces.count; first += batchSize) {
      const outputs = await executable.run({ pixels: await readBatch(faces, first, inputSize) });
      const { data } = outputs['embedding'] as FloatTensor;
      for (let slot = 0; slot < batchSize; slot++) {
        for (let column = 0; column < width; column++) {
          const from = slot * embeddingSize + Math.floor((column * embeddingSize) / width);
          embeddings[(first + slot) * width + column] = data[from]!;
        }
      }
      const done = first + batchSize;
      if (done === checkedFaces) requireDifferences(base, embeddings.subarray(0, done * width), width);
      onDone(done);
    }
  } finally {
    await executable.release();
  }
  requireDifferences(base, embeddings, width);
  return embeddings;
}

/** Planes of red, green and blue for each face, in the network's size. */
async function readBatch(faces: LeakFaces, first: number, side: number): Promise<FloatTensor> {
  const pixels = floatTensor([batchSize, 3, side, side]);
  const area = side ** 2;
  for (let slot = 0; slot < batchSize; slot++) {
    const drawn = { width: faceSide, height: faceSide, data: faces.image(first + slot) };
    const { data } = await fitToSquare(drawn, side);
    for (let at = 0; at < data.length; at++) {
      pixels.data[3 * slot * area + (at % 3) * area + Math.floor(at / 3)] = data[at]!;
    }
  }
  return pixels;
}
