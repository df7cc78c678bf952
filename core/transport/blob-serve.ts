/** Answers signed requests for chunks. */
import { open } from 'node:fs/promises';
import type { Logger } from '../shared/logger.ts';
import type { BlobExchangeOptions, ExchangeTopics } from './blob-options.ts';
import { encodeChunkFrame, type StartedFrame, startChunkFrame } from './chunk-frame.ts';
import { createConcurrencyLimiter } from './concurrency-limiter.ts';
import { openIfValid } from './envelope.ts';
import type { LinkMessage } from './link.ts';
import { type BlobRequestBody, blobRequestSchema } from './messages.ts';
import { createReplayGuard } from './replay-guard.ts';

export interface BlobServer {
  receive(message: LinkMessage): void;
  close(): Promise<void>;
}

/** Chunks being read or sent at once over all peers: at 256 KiB each, 8 MiB of memory. */
const maxChunksUnderWay = 32;
/** Chunks a single peer may have waiting; what it asks beyond that it has to ask again. */
const maxChunksPerPeer = 16;
/** A blob that was found whole is not read again within this time: a transfer asks for many chunks. */
const wholeForMs = 30_000;
/** A chunk on a slow line takes a while. */
const publishTimeoutMs = 120_000;

export function createBlobServer(
  options: BlobExchangeOptions & { topics: ExchangeTopics; logger: Logger },
): BlobServer {
  const { link, topics, blobs, logger } = options;
  const replays = createReplayGuard({ peers: options.peers });
  const sending = createConcurrencyLimiter(maxChunksUnderWay);
  const waiting = new Map<string, number>();
  const closing = new AbortController();
  const underWay = new Set<Promise<void>>();
  const verified = new Map<string, Promise<boolean>>();
  /** Of these, what was damaged or missing. It may be made anew, to the very same bytes. */
  const lost = new Set<string>();

  async function verify(sha256: string): Promise<boolean> {
    if (await blobs.verify(sha256)) return true;
    logger.warn({ sha256 }, 'a file that was asked for is damaged on this disk, or gone');
    lost.add(sha256);
    options.onDamaged?.(sha256);
    return false;
  }

  /** One reading for all chunks that are asked for together. */
  function isWhole(sha256: string): Promise<boolean> {
    if (options.onDamaged === undefined) return Promise.resolve(true);
    const known = verified.get(sha256);
    // Of what is still lost its owner hears once, however many ask for it.
    const isBack = lost.has(sha256) && blobs.has(sha256);
    if (known !== undefined && !isBack) return known;
    lost.delete(sha256);
    const found = verify(sha256);
    verified.set(sha256, found);
    setTimeout(() => verified.delete(sha256), wholeForMs).unref();
    return found;
  }

  async function readChunk(
    { sha256, chunkBytes }: BlobRequestBody,
    index: number,
  ): Promise<StartedFrame | null> {
    const offset = index * chunkBytes;
    const length = Math.min(chunkBytes, blobs.sizeBytes(sha256) - offset);
    if (length <= 0) return null;
    const frame = startChunkFrame({ kind: 'data', sha256, index }, length);
    const file = await open(blobs.path(sha256), 'r');
    try {
      const { bytesRead } = await file.read(frame.bytes, 0, length, offset);
      return bytesRead === length ? frame : null;
    } finally {
      await file.close();
    }
  }

  async function sendChunk(peer: string, request: BlobRequestBody, index: number): Promise<void> {
    const { sha256 } = request;
    // Asked again for each chunk: a right may end and a blob may be deleted in mid-transfer.
    if (options.maySend(peer, sha256) === null) return;
    const maySend = () => options.maySend(peer, sha256) === true;
    const isGiven = () => maySend() && blobs.has(sha256);
    const read = maySend() && (await isWhole(sha256)) && isGiven() ? await readChunk(request, index) : null;
    // Reading takes a while, and so may waiting for a turn: what may not leave any more does not.
    const data = isGiven() ? read : null;
    const encoded =
      data?.encoded ?? encodeChunkFrame({ kind: 'missing', sha256, index, bytes: new Uint8Array() });
    const mayLeave = () => data === null || isGiven();
    await link.publish(topics.chunksToPeer(peer), encoded, { timeoutMs: publishTimeoutMs, mayLeave });
    if (data !== null) options.onSent?.(peer, sha256, data.bytes.length);
  }

  async function answer(peer: string, request: BlobRequestBody, index: number): Promise<void> {
    try {
      await sending.run(() => sendChunk(peer, request, index), closing.signal);
    } catch (error) {
      // The receiver asks again.
      if (!closing.signal.aborted)
        logger.info({ error, peer, sha256: request.sha256, index }, 'chunk not sent');
    } finally {
      const left = (waiting.get(peer) ?? 1) - 1;
      if (left > 0) waiting.set(peer, left);
      else waiting.delete(peer);
    }
  }

  return {
    receive(message) {
      const peer = topics.peerOf(message.topic);
      if (peer === null || closing.signal.aborted) return;
      if (options.keyOf(peer) === null) return;
      const request = openIfValid(message.payload, {
        federation: options.federation,
        recipient: options.signer.id,
        sender: peer,
        keyOf: options.keyOf,
        bodies: { 'blob-request': blobRequestSchema },
      });
      if (request === null) {
        options.onFault?.(peer, 'message');
        logger.info({ peer }, 'a request for chunks that is no message');
        return;
      }
      if (!replays.accept(request)) return;
      for (const index of new Set(request.body.indices)) {
        const count = waiting.get(peer) ?? 0;
        if (count >= maxChunksPerPeer) return;
        waiting.set(peer, count + 1);
        const answering = answer(peer, request.body, index).finally(() => underWay.delete(answering));
        underWay.add(answering);
      }
    },
    async close() {
      closing.abort();
      // Not waited for the broker: on a dead line that would take until its timeout.
      await Promise.race([
        Promise.allSettled(underWay),
        new Promise((resolve) => setTimeout(resolve, 500).unref()),
      ]);
    },
  };
}
