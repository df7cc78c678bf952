/**
 * Worker thread: finds faces and their 68 landmarks with @vladmandic/face-api on tfjs's WASM backend.
 * Networks and WASM binaries are read from the installed packages; nothing is fetched.
 */
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { parentPort } from 'node:worker_threads';
import type * as faceApi from '@vladmandic/face-api';
import { pick } from '../shared/pick.ts';
import { type FaceReply, type FaceRequest, faceRequestSchema } from './face-protocol.ts';

/** Below this confidence the network's guess is not taken for a face. */
const minConfidence = 0.5;
const maxFaces = 10;

interface Tf {
  tensor3d(values: Uint8Array, shape: [number, number, number], dtype: 'int32'): faceApi.tf.Tensor3D;
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
}

const port = parentPort!;
const require = createRequire(import.meta.url);
const reply = (message: FaceReply) => port.postMessage(message);

async function loadNetworks(): Promise<typeof faceApi> {
  const wasm = require('@tensorflow/tfjs-backend-wasm') as { setWasmPaths(folder: string): void };
  // The folder of the binaries: beside the package's entry file.
  wasm.setWasmPaths(dirname(require.resolve('@tensorflow/tfjs-backend-wasm')) + sep);
  const api = require('@vladmandic/face-api/dist/face-api.node-wasm.js') as typeof faceApi;
  const tf = api.tf as unknown as Tf;
  await tf.setBackend('wasm');
  await tf.ready();
  const weights = join(dirname(require.resolve('@vladmandic/face-api/package.json')), 'model');
  await api.nets.ssdMobilenetv1.loadFromDisk(weights);
  await api.nets.faceLandmark68Net.loadFromDisk(weights);
  return api;
}

async function detect(api: typeof faceApi, request: FaceRequest): Promise<FaceReply> {
  const tf = api.tf as unknown as Tf;
  const tensor = tf.tensor3d(request.data, [request.height, request.width, 3], 'int32');
  try {
    const options = new api.SsdMobilenetv1Options({ minConfidence, maxResults: maxFaces });
    const found = await api
      .detectAllFaces(tensor as unknown as faceApi.TNetInput, options)
      .withFaceLandmarks();
    const faces = found
      .map(({ detection, landmarks }) => ({
        box: pick(detection.box, 'x', 'y', 'width', 'height'),
        landmarks: landmarks.positions.map(({ x, y }) => ({ x, y })),
        score: detection.score,
      }))
      .sort((a, b) => b.score - a.score);
    return { type: 'faces', id: request.id, faces };
  } finally {
    tensor.dispose();
  }
}

const words = (error: unknown) => (error instanceof Error ? error.message : String(error));

try {
  const api = await loadNetworks();
  // One image at a time: a chain of promises keeps the order.
  let queue: Promise<void> = Promise.resolve();
  port.on('message', (message: unknown) => {
    const request = faceRequestSchema.parse(message);
    queue = queue
      .then(() => detect(api, request))
      .then(reply, (error: unknown) => reply({ type: 'failed', id: request.id, message: words(error) }));
  });
  reply({ type: 'ready' });
} catch (error) {
  reply({ type: 'failed', id: null, message: words(error) });
}
