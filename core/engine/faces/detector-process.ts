/**
 * A process of the face detector: a plain Node process that process-pool.ts starts with the device as its argument. What a fault of
 * a runtime or a driver takes down is this process. It ends when its parent goes away.
 */
import { watchParent } from '../../process/parent-watch.ts';
import { toAppError } from '../../shared/errors.ts';
import { deviceKinds } from '../engine.ts';
import { loadEngine } from '../engines.ts';
import { findFaces, findLandmarks } from './cascade.ts';
import { createNetworks, type RunningNetworks } from './networks.ts';
import { type FaceReply, faceRequestSchema } from './protocol.ts';

const device = deviceKinds.find((kind) => kind === process.argv[2]) ?? 'cpu';
/** The networks are small: several processes use several cores better than several threads. */
const threads = 1;

async function answer(message: unknown, networks: RunningNetworks): Promise<FaceReply> {
  const id = Number((message as { id?: unknown } | null)?.id);
  try {
    const request = faceRequestSchema.parse(message);
    const { look } = request;
    const faces =
      look.for === 'faces'
        ? await findFaces(request, networks, look)
        : await findLandmarks(request, networks, look.box);
    return { type: 'faces', id, faces };
  } catch (thrown) {
    return failed(Number.isSafeInteger(id) ? id : null, thrown);
  }
}

/** The cause goes to the agent's log: it names no image. */
function failed(id: number | null, thrown: unknown): FaceReply {
  const error = toAppError(thrown);
  console.error(error.cause ?? error);
  return { type: 'failed', id, error: error.toReport() };
}

function send(reply: FaceReply): void {
  if (process.connected) process.send?.(reply, undefined, undefined, () => {});
}

// At normal priority: a person waits for an import.
watchParent();
let networks: RunningNetworks | undefined;
process.on('disconnect', () => {
  // A session on a graphics processor that is not released takes the process down with a fault.
  void (networks?.release() ?? Promise.resolve()).finally(() => process.exit(0));
});
try {
  networks = await createNetworks(await loadEngine('onnxruntime'), { device, threads });
  // The first use tells whether the device works; every image needs these.
  await networks.output({ dtype: 'float32', dims: [1, 3, 48, 48], data: new Float32Array(3 * 48 * 48) });
  let queue = Promise.resolve();
  process.on('message', (message) => {
    queue = queue.then(async () => send(await answer(message, networks!)));
  });
  send({ type: 'ready' });
} catch (thrown) {
  send(failed(null, thrown));
}
