/** Image formats that the image library does not read, in a worker thread with a time limit; see image-worker.ts. */
import { Worker } from 'node:worker_threads';
import { type ForeignFormat, type ImageReply, imageReplySchema } from './image-protocol.ts';

/** A 48-megapixel photograph of a phone takes about five seconds; a file that takes longer than this was made to. */
const defaultTimeLimitMs = 60_000;
/** The thread ends when nothing was asked of it for so long: WebAssembly never gives memory back. */
const idleMs = 5_000;
const heapMb = 1024;

let worker: Worker | null = null;
let idle: NodeJS.Timeout | null = null;
let lastId = 0;
/** One file at a time: each has the whole time limit to itself. */
let queue: Promise<unknown> = Promise.resolve();

/** `timed-out` and `ended` when the file did not let the reader finish. */
export type ForeignReply = ImageReply | { type: 'timed-out' } | { type: 'ended' };

/** Never throws for what is in the file: the reply says it. */
export function readForeignImage(
  format: ForeignFormat,
  bytes: Uint8Array,
  maxPixels: number,
  timeLimitMs = defaultTimeLimitMs,
): Promise<ForeignReply> {
  const reply = queue.then(() => ask(format, bytes, maxPixels, timeLimitMs));
  queue = reply;
  return reply;
}

async function ask(
  format: ForeignFormat,
  bytes: Uint8Array,
  maxPixels: number,
  timeLimitMs: number,
): Promise<ForeignReply> {
  if (idle) clearTimeout(idle);
  worker ??= new Worker(new URL('./image-worker.ts', import.meta.url), {
    name: 'anneal-images',
    resourceLimits: { maxOldGenerationSizeMb: heapMb },
    // libheif prints what it does not like, and that is no line of ours.
    stdout: true,
    stderr: true,
  });
  const asked = worker;
  const copy = Uint8Array.from(bytes);
  lastId += 1;
  const request = { id: lastId, format, bytes: copy, maxPixels };
  asked.ref();
  const reply = await new Promise<ForeignReply>((resolve) => {
    const timer = setTimeout(() => resolve({ type: 'timed-out' }), timeLimitMs);
    const settle = (answer: ForeignReply) => {
      clearTimeout(timer);
      resolve(answer);
    };
    asked.once('message', (message: unknown) =>
      settle(imageReplySchema.safeParse(message).data ?? { type: 'ended' }),
    );
    asked.once('error', () => settle({ type: 'ended' }));
    asked.once('exit', () => settle({ type: 'ended' }));
    asked.postMessage(request, [copy.buffer]);
  });
  for (const event of ['message', 'error', 'exit']) asked.removeAllListeners(event);
  if (reply.type === 'timed-out' || reply.type === 'ended') {
    worker = null;
    // What it still says is of no interest.
    asked.on('error', () => {});
    await asked.terminate();
  } else {
    asked.on('error', () => {});
    asked.unref();
    idle = setTimeout(endIdle, idleMs).unref();
  }
  return reply;
}

function endIdle(): void {
  const ended = worker;
  worker = null;
  void ended?.terminate();
}
