/** Answers signed requests for chunks. */
import { type FileHandle, open } from 'node:fs/promises';
import type { Logger } from '../shared/logger.ts';
import type { BlobExchangeOptions, ExchangeTopics } from './blob-options.ts';
import { type StartedFrame, startChunkFrame } from './chunk-frame.ts';
import { createReplayGuard, openEnvelope } from './envelope.ts';
import { createGrantQueue } from './grant-queue.ts';
import type { LinkMessage } from './link.ts';
import { type BlobRequestBody, blobRequestSchema } from './messages.ts';

export interface BlobServer {
  receive(message: LinkMessage): void;
  close(): Promise<void>;
}

/** Chunks being read or sent at once over all peers: at 256 KiB each, 8 MiB of memory. */
const maxChunksUnderWay = 32;
/** Chunks a single peer may have waiting; what it asks beyond that it has to ask again. */
const maxChunksPerPeer = 16;
/** A chunk on a slow line takes a while. */
const publishTimeoutMs = 120_000;

export function createBlobServer(
  options: BlobExchangeOptions & { topics: ExchangeTopics; logger: Logger },
): BlobServer {
  const { link, topics, blobs, logger } = options;
  const replays = createReplayGuard();
  const sending = createGrantQueue(maxChunksUnderWay);
  const waiting = new Map<string, number>();
  const closing = new AbortController();
  const underWay = new Set<Promise<void>>();

  async function readChunk(
    { sha256, chunkBytes }: BlobRequestBody,
    index: number,
    file: () => Promise<FileHandle>,
  ): Promise<StartedFrame | null> {
    const offset = index * chunkBytes;
    const length = Math.min(chunkBytes, blobs.sizeBytes(sha256) - offset);
    if (length <= 0) return null;
    const frame = startChunkFrame({ kind: 'data', sha256, index }, length);
    const { bytesRead } = await (await file()).read(frame.bytes, 0, length, offset);
    return bytesRead === length ? frame : null;
  }

  async function sendChunk(
    peer: string,
    request: BlobRequestBody,
    index: number,
    file: () => Promise<FileHandle>,
  ): Promise<void> {
    const { sha256 } = request;
    // Asked again for each chunk: a right may end and a blob may be deleted in mid-transfer.
    const held = options.maySend(peer, sha256) && blobs.has(sha256);
    const data = held ? await readChunk(request, index, file) : null;
    const { encoded } = data ?? startChunkFrame({ kind: 'missing', sha256, index }, 0);
    await link.publish(topics.chunksToPeer(peer), encoded, { timeoutMs: publishTimeoutMs });
    if (data !== null) options.onSent?.(peer, sha256, data.bytes.length);
  }

  async function answer(
    peer: string,
    request: BlobRequestBody,
    index: number,
    file: () => Promise<FileHandle>,
  ): Promise<void> {
    try {
      await sending.run(() => sendChunk(peer, request, index, file), closing.signal);
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

  /** The file is opened once for all chunks of a request. */
  async function answerAll(peer: string, request: BlobRequestBody): Promise<void> {
    let opening: Promise<FileHandle> | null = null;
    const file = () => {
      opening ??= open(blobs.path(request.sha256), 'r');
      return opening;
    };
    const answers: Promise<void>[] = [];
    for (const index of new Set(request.indices)) {
      const count = waiting.get(peer) ?? 0;
      if (count >= maxChunksPerPeer) break;
      waiting.set(peer, count + 1);
      answers.push(answer(peer, request, index, file));
    }
    await Promise.all(answers);
    await (opening as Promise<FileHandle> | null)?.then((opened) => opened.close()).catch(() => {});
  }

  return {
    receive(message) {
      const peer = topics.peerOf(message.topic);
      if (peer === null || closing.signal.aborted) return;
      const request = openEnvelope(message.payload, {
        federation: options.federation,
        recipient: options.signer.id,
        sender: peer,
        keyOf: options.keyOf,
        bodies: { 'blob-request': blobRequestSchema },
      });
      if (!replays.accept(request)) return;
      const answering = answerAll(peer, request.body).finally(() => underWay.delete(answering));
      underWay.add(answering);
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
