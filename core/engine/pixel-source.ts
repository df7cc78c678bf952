/**
 * From crop files to the pixels of a batch, away from the thread that computes: the runtime blocks its thread
 * while it runs a graph, so decoding and augmentation go on in a worker thread meanwhile.
 */
import { Worker } from 'node:worker_threads';
import { AppError, errorReportSchema } from '../shared/errors.ts';
import type { Augmentation } from './augmentation.ts';
import type { CropShape } from './crops.ts';

export interface PixelSample {
  /** A crop file. */
  file: string;
  /** Of the file; held against it when it is read. */
  sha256?: string | undefined;
  augmentation: Augmentation | undefined;
}

export interface PixelSource {
  /**
   * Writes samples one after the other as planes [3, side, side] of 0…255; what is left of the buffer becomes 0.
   * @param buffer belongs to the source from now on; the result takes its place
   * @returns the same values' memory, filled
   * @throws AppError IMAGE_UNREADABLE | BLOB_CORRUPT, TRAINING_FAILED when the worker ended
   */
  fill(
    samples: readonly PixelSample[],
    shape: CropShape,
    buffer: Float32Array<ArrayBuffer>,
  ): Promise<Float32Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** What goes to the worker; the buffer is moved, not copied. */
export interface PixelRequest {
  id: number;
  samples: readonly PixelSample[];
  shape: CropShape;
  buffer: Float32Array<ArrayBuffer>;
}

/** What comes back. */
export type PixelReply =
  | { id: number; buffer: Float32Array<ArrayBuffer> }
  | { id: number; error: { code: string; message: string; action: string } };

interface Waiting {
  resolve(buffer: Float32Array<ArrayBuffer>): void;
  reject(error: AppError): void;
}

/**
 * A worker thread, started with the first request and again after it ended.
 * @param cacheBytes how much of the decoded crops it keeps
 */
export function createPixelSource(cacheBytes: number): PixelSource {
  const waiting = new Map<number, Waiting>();
  let worker: Worker | undefined;
  let lastId = 0;

  function start(): Worker {
    const started = new Worker(new URL('./pixel-worker.ts', import.meta.url), {
      name: 'anneal-pixels',
      workerData: { cacheBytes },
    });
    started.on('message', (reply: PixelReply) => settle(reply));
    started.on('error', (cause) => lose(started, cause));
    started.on('exit', () => lose(started));
    return started;
  }

  function settle(reply: PixelReply): void {
    const request = waiting.get(reply.id);
    waiting.delete(reply.id);
    // An idle worker must not keep the process alive.
    if (waiting.size === 0) worker?.unref();
    if ('buffer' in reply) request?.resolve(reply.buffer);
    else request?.reject(toError(reply.error));
  }

  function lose(lost: Worker, cause?: unknown): void {
    if (worker !== lost) return;
    worker = undefined;
    const failed = [...waiting.values()];
    waiting.clear();
    const error = new AppError('TRAINING_FAILED', 'The thread that prepares images ended.', { cause });
    for (const request of failed) request.reject(error);
  }

  return {
    fill(samples, shape, buffer) {
      worker ??= start();
      const target = worker;
      const id = ++lastId;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        target.ref();
        const request: PixelRequest = { id, samples, shape, buffer };
        target.postMessage(request, [buffer.buffer]);
      });
    },
    async close() {
      const stopping = worker;
      if (stopping === undefined) return;
      lose(stopping);
      await stopping.terminate();
    },
  };
}

function toError(error: unknown): AppError {
  const report = errorReportSchema.safeParse(error);
  if (!report.success) return new AppError('INTERNAL', 'The thread that prepares images failed.');
  return AppError.fromReport(report.data);
}
