/** Pulls blobs chunk by chunk, with a window, and goes on after anything that interrupts it. */
import { AppError, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { PartialBlob } from '../store/blob-store.ts';
import type { BlobExchangeOptions, ExchangeTopics } from './blob-options.ts';
import { type ChunkFrame, decodeChunkFrame } from './chunk-frame.ts';
import { cancelled } from './concurrency-limiter.ts';
import { sealEnvelope } from './envelope.ts';
import type { LinkMessage } from './link.ts';
import { type BlobReference, blobReferenceSchema, maxIndicesPerRequest } from './messages.ts';

export interface FetchOptions {
  signal?: AbortSignal;
  /** Bytes that are there, those of earlier tries included. */
  onProgress?(receivedBytes: number, sizeBytes: number): void;
  /** Give up when nothing came for this long (ms). Default: never, the signal decides. */
  giveUpMs?: number;
}

export interface FetchResult {
  /** Chunk bytes that arrived in this call, repeats included; 0 when the blob was there. */
  bytesReceived: number;
}

export interface BlobFetcher {
  fetch(reference: BlobReference, from: string, options?: FetchOptions): Promise<FetchResult>;
  receive(message: LinkMessage): Promise<void>;
  close(): Promise<void>;
}

/** Chunks under way for one blob: with 256 KiB each this fills a 12 MB/s line at 50 ms round trip. */
const windowChunks = maxIndicesPerRequest;
/** Whole transfers with a wrong hash before the peer is held to be at fault. */
const maxAttempts = 3;
/** Chunks of a wrong length that are asked for again in one pass, before the pass counts as a wrong transfer. */
const maxRefusedChunks = 2 * windowChunks;

type FetcherOptions = BlobExchangeOptions & { topics: ExchangeTopics; logger: Logger };

interface Transfer {
  readonly peer: string;
  readonly settled: Promise<unknown>;
  receive(frame: ChunkFrame): Promise<void>;
}

export function createBlobFetcher(options: FetcherOptions): BlobFetcher {
  const { blobs, topics } = options;
  const transfers = new Map<string, Transfer>();
  const closing = new AbortController();

  async function fetch(
    reference: BlobReference,
    from: string,
    fetchOptions: FetchOptions = {},
  ): Promise<FetchResult> {
    const { sha256 } = blobReferenceSchema.parse(reference);
    const signal = AbortSignal.any([closing.signal, ...(fetchOptions.signal ? [fetchOptions.signal] : [])]);
    // Two callers that want the same bytes share one transfer, and only the first counts them.
    for (let other = transfers.get(sha256); other !== undefined; other = transfers.get(sha256)) {
      await untilSettledOrAborted(other.settled, signal);
    }
    const counted = { bytesReceived: 0 };
    if (blobs.has(sha256)) return counted;
    const done = Promise.withResolvers<void>();
    let current: Pull | null = null;
    transfers.set(sha256, {
      peer: from,
      settled: done.promise,
      async receive(frame) {
        counted.bytesReceived += frame.bytes.length;
        await current?.receive(frame);
      },
    });
    try {
      for (let attempt = 1; ; attempt++) {
        throwIfAborted(signal);
        const partial = await blobs.openPartial(sha256, reference.sizeBytes, reference.chunkBytes);
        current = createPull({ ...options, reference, from, partial, fetchOptions, signal });
        try {
          await current.result;
          return counted;
        } catch (error) {
          if (toAppError(error).code !== 'BLOB_CORRUPT' || attempt >= maxAttempts) throw error;
          options.logger.warn({ peer: from, sha256, attempt }, 'a blob arrived damaged and is fetched again');
        }
      }
    } finally {
      transfers.delete(sha256);
      done.resolve();
    }
  }

  return {
    fetch,
    async receive(message) {
      const peer = topics.peerOf(message.topic);
      if (peer === null) return;
      const frame = decodeChunkFrame(message.payload);
      if (frame === null) {
        options.onFault?.(peer, 'message');
        return;
      }
      const transfer = transfers.get(frame.sha256);
      // Bytes count only from whom they were asked of.
      if (transfer?.peer !== peer) {
        options.onFault?.(peer, 'chunk');
        return;
      }
      if (frame.kind === 'data') options.onReceived?.(peer, frame.sha256, frame.bytes.length);
      await transfer.receive(frame);
    },
    async close() {
      closing.abort();
      await Promise.all([...transfers.values()].map((transfer) => transfer.settled));
    },
  };
}

interface Pull {
  /** Resolves when the blob is complete and verified. */
  readonly result: Promise<void>;
  receive(frame: ChunkFrame): Promise<void>;
}

type PullOptions = FetcherOptions & {
  reference: BlobReference;
  from: string;
  partial: PartialBlob;
  fetchOptions: FetchOptions;
  signal: AbortSignal;
};

/** One pass over the missing chunks of a partial blob. */
function createPull(options: PullOptions): Pull {
  const { reference, from, partial, fetchOptions, signal, link } = options;
  const missing = new Set(partial.missing());
  const asked = new Set<number>();
  const ended = Promise.withResolvers<void>();
  const firstWaitMs = options.chunkTimeoutMs ?? 10_000;
  let waitMs = firstWaitMs;
  let timer: NodeJS.Timeout | undefined;
  let lastArrivalMs = performance.now();
  let writing: Promise<void> = Promise.resolve();
  let over = false;
  let refused = 0;

  function ask(indices: number[]): void {
    if (indices.length === 0) return;
    const { sha256, chunkBytes } = reference;
    const request = sealEnvelope(
      {
        federation: options.federation,
        recipient: from,
        type: 'blob-request',
        body: { sha256, chunkBytes, indices },
        stamp: options.stamp?.(),
      },
      options.signer,
    );
    // A request that is lost is a chunk that does not come: the timer asks again.
    link.publish(options.topics.askPeer(from), request, { timeoutMs: firstWaitMs }).catch(() => {});
  }

  function fillWindow(): void {
    const next: number[] = [];
    for (const index of missing) {
      if (asked.size >= windowChunks) break;
      if (asked.has(index)) continue;
      asked.add(index);
      next.push(index);
    }
    ask(next);
  }

  function waitForArrival(): void {
    clearTimeout(timer);
    timer = setTimeout(
      () => {
        if (performance.now() - lastArrivalMs > (fetchOptions.giveUpMs ?? Number.POSITIVE_INFINITY)) {
          ended.reject(new AppError('BROKER_UNREACHABLE', 'The other side did not send what was asked for.'));
          return;
        }
        waitMs = Math.min(waitMs * 2, firstWaitMs * 6);
        askAgain();
      },
      Math.min(waitMs, fetchOptions.giveUpMs ?? waitMs),
    );
  }

  function askAgain(): void {
    ask([...asked]);
    waitForArrival();
  }

  async function take(frame: ChunkFrame): Promise<void> {
    if (over) return;
    if (frame.kind === 'missing') {
      ended.reject(new AppError('NOT_FOUND', 'The other side does not have what was asked for.'));
      return;
    }
    if (!asked.has(frame.index)) {
      options.onFault?.(from, 'chunk');
      return;
    }
    try {
      await partial.write(frame.index, frame.bytes);
    } catch (error) {
      // A wrong length. The pass goes on without it: one more such chunk may already be on its way, and
      // would spoil the next pass too.
      if (toAppError(error).code !== 'BLOB_CORRUPT' || ++refused > maxRefusedChunks) throw error;
      ask([frame.index]);
      return;
    }
    missing.delete(frame.index);
    asked.delete(frame.index);
    lastArrivalMs = performance.now();
    waitMs = firstWaitMs;
    fetchOptions.onProgress?.(receivedBytes(reference, missing), reference.sizeBytes);
    if (missing.size === 0) ended.resolve();
    else if (!over) {
      fillWindow();
      waitForArrival();
    }
  }

  async function run(): Promise<void> {
    const removeStatus = link.onStatus((online) => {
      if (!online) return;
      waitMs = firstWaitMs;
      askAgain();
    });
    const abort = () => ended.reject(cancelled());
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    try {
      if (missing.size > 0 || signal.aborted) {
        fillWindow();
        waitForArrival();
        await ended.promise;
      }
    } catch (error) {
      over = true;
      await writing;
      await partial.suspend();
      throw error;
    } finally {
      over = true;
      clearTimeout(timer);
      removeStatus();
      signal.removeEventListener('abort', abort);
    }
    await partial.complete();
  }

  return {
    result: run(),
    receive(frame) {
      writing = take(frame).catch((error) => ended.reject(error));
      return writing;
    },
  };
}

function receivedBytes(reference: BlobReference, missing: ReadonlySet<number>): number {
  const last = Math.ceil(reference.sizeBytes / reference.chunkBytes) - 1;
  const lastBytes = reference.sizeBytes - last * reference.chunkBytes;
  const missingBytes =
    missing.size * reference.chunkBytes - (missing.has(last) ? reference.chunkBytes - lastBytes : 0);
  return reference.sizeBytes - missingBytes;
}

async function untilSettledOrAborted(settled: Promise<unknown>, signal: AbortSignal): Promise<void> {
  throwIfAborted(signal);
  const aborted = Promise.withResolvers<void>();
  const abort = () => aborted.resolve();
  signal.addEventListener('abort', abort, { once: true });
  await Promise.race([settled, aborted.promise]);
  signal.removeEventListener('abort', abort);
  throwIfAborted(signal);
}

function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw cancelled();
}
