/** Worker thread: decodes crops and applies augmentations, request by request (see pixel-source.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import { toAppError } from '../shared/errors.ts';
import { createCropCache } from './crops.ts';
import { fillPixels } from './fill-pixels.ts';
import type { PixelReply, PixelRequest } from './pixel-source.ts';

const port = parentPort!;
const crops = createCropCache((workerData as { cacheBytes: number }).cacheBytes);

async function answer({ id, samples, shape, buffer }: PixelRequest): Promise<void> {
  try {
    await fillPixels(samples, shape, crops, buffer);
    const reply: PixelReply = { id, buffer };
    port.postMessage(reply, [buffer.buffer]);
  } catch (thrown) {
    const reply: PixelReply = { id, error: toAppError(thrown).toReport() };
    port.postMessage(reply);
  }
}

// One request after the other: the first one asked for is the first one needed.
let queue: Promise<void> = Promise.resolve();
port.on('message', (request: PixelRequest) => {
  queue = queue.then(() => answer(request));
});
