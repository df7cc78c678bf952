/** Our graph of the face network against the library whose weights it takes, on that library's photographs. */
import { createRequire } from 'node:module';
import path from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { writePlanes } from '../../core/engine/augmentation.ts';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';

const require = createRequire(import.meta.url);
const packageFolder = path.dirname(require.resolve('@vladmandic/face-api/package.json'));
const modelFolder = path.join(packageFolder, 'model');
const side = 150;

interface Crop {
  photograph: string;
  rgb: Buffer;
  /** The library's own descriptor of this very crop. */
  descriptor: Float32Array;
}

/** Detects and aligns every face with the library, cuts it out with sharp, and lets the library describe it. */
async function describeFaces(): Promise<Crop[]> {
  const tf = require('@tensorflow/tfjs') as typeof import('@tensorflow/tfjs');
  const wasm = require('@tensorflow/tfjs-backend-wasm') as typeof import('@tensorflow/tfjs-backend-wasm');
  const faceApi =
    require('@vladmandic/face-api/dist/face-api.node-wasm.js') as typeof import('@vladmandic/face-api');
  wasm.setWasmPaths(`${path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
  await tf.setBackend('wasm');
  await tf.ready();
  await faceApi.nets.tinyFaceDetector.loadFromDisk(modelFolder);
  await faceApi.nets.faceLandmark68Net.loadFromDisk(modelFolder);
  await faceApi.nets.faceRecognitionNet.loadFromDisk(modelFolder);
  const crops: Crop[] = [];
  for (let number = 1; number <= 6; number++) {
    const photograph = `sample${number}.jpg`;
    const file = path.join(packageFolder, 'demo', photograph);
    const { data, info } = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    const image = tf.tensor3d(data, [info.height, info.width, 3], 'int32');
    const options = new faceApi.TinyFaceDetectorOptions({ inputSize: 416, scoreThreshold: 0.4 });
    const faces = await faceApi.detectAllFaces(image as never, options).withFaceLandmarks();
    image.dispose();
    for (const { alignedRect } of faces) {
      const { x, y, width, height } = alignedRect.box;
      const left = Math.max(0, Math.floor(x));
      const top = Math.max(0, Math.floor(y));
      const region = {
        left,
        top,
        width: Math.min(Math.floor(width), info.width - left),
        height: Math.min(Math.floor(height), info.height - top),
      };
      const rgb = await sharp(file)
        .extract(region)
        .resize(side, side, { fit: 'fill' })
        .removeAlpha()
        .raw()
        .toBuffer();
      const crop = tf.tensor3d(rgb, [side, side, 3], 'int32');
      const descriptor = await faceApi.nets.faceRecognitionNet.computeFaceDescriptor(crop as never);
      crop.dispose();
      crops.push({ photograph, rgb, descriptor: descriptor as Float32Array });
    }
  }
  return crops;
}

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!;
    aa += a[i]! ** 2;
    bb += b[i]! ** 2;
  }
  return dot / Math.sqrt(aa * bb);
}

describe('face-resnet-128', () => {
  let crops: Crop[];
  beforeAll(async () => {
    crops = await describeFaces();
  });

  test('gives the descriptors that the library gives', async () => {
    const base = await loadBaseModel('face-resnet-128');
    const pixels = floatTensor([crops.length, 3, side, side]);
    for (const [index, { rgb }] of crops.entries()) {
      writePlanes(rgb, side, pixels.data.subarray(index * 3 * side * side, (index + 1) * 3 * side * side));
    }
    const executable = await createOnnxRuntimeEngine().compile(base.buildGraph(crops.length), {
      device: 'cpu',
      threads: 2,
    });

    const { embedding } = await executable.run({ pixels });
    await executable.release();

    expect(new Set(crops.map((crop) => crop.photograph)).size).toBe(6);
    for (const [index, { descriptor, photograph }] of crops.entries()) {
      const ours = (embedding as FloatTensor).data.subarray(index * 128, (index + 1) * 128);
      expect(cosine(ours, descriptor), photograph).toBeGreaterThan(0.9999);
      expect(Math.max(...ours.map((value, i) => Math.abs(value - descriptor[i]!)))).toBeLessThan(1e-3);
    }
  });
});
