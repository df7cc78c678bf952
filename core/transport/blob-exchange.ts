/**
 * Large things travel as content-addressed blobs in chunks, pulled by the receiver: it asks for a few chunks
 * at a time, asks again for what does not come, and goes on where it stopped after a restart on either side.
 * A blob is there when its SHA-256 is verified; what a broker acknowledged counts for nothing.
 *
 * The same code serves and fetches on both sides: a site's only peer is the coordinator, the coordinator's
 * peers are the sites.
 */
import { AppError } from '../shared/errors.ts';
import { silentLogger } from '../shared/logger.ts';
import { createBlobFetcher, type FetchOptions, type FetchResult } from './blob-fetch.ts';
import type { BlobExchangeOptions, ExchangeTopics } from './blob-options.ts';
import { createBlobServer } from './blob-serve.ts';
import type { BlobReference } from './messages.ts';
import { coordinatorId, createTopics } from './topics.ts';

export type { BlobExchangeOptions } from './blob-options.ts';

export interface BlobExchange {
  /**
   * Pulls a blob into the store; returns at once when it is there. Waits through disconnects.
   * @param from `coordinator`, or a site id
   * @throws AppError CANCELLED (`signal`), NOT_FOUND (the peer does not give it), BLOB_CORRUPT (three times
   * the wrong bytes), BROKER_UNREACHABLE (nothing came for `giveUpMs`), DISK_FULL
   */
  fetch(reference: BlobReference, from: string, options?: FetchOptions): Promise<FetchResult>;
  /** Stops serving and fetching; partial blobs stay for the next time. */
  close(): Promise<void>;
}

/** @throws AppError when the link refuses the subscriptions */
export async function createBlobExchange(options: BlobExchangeOptions): Promise<BlobExchange> {
  const topics = exchangeTopics(options.federation, options.signer.id);
  const logger = options.logger ?? silentLogger;
  const fetcher = createBlobFetcher({ ...options, topics, logger });
  const server = createBlobServer({ ...options, topics, logger });
  const unsubscribe = await Promise.all([
    options.link.subscribe(topics.chunksFromPeers, (message) => fetcher.receive(message)),
    options.link.subscribe(topics.asksFromPeers, (message) => server.receive(message)),
  ]);
  return {
    fetch: (reference, from, fetchOptions) => fetcher.fetch(reference, from, fetchOptions),
    async close() {
      await Promise.all(unsubscribe.map((stop) => stop()));
      await fetcher.close();
      await server.close();
    },
  };
}

function exchangeTopics(federation: string, self: string): ExchangeTopics {
  const topics = createTopics(federation);
  if (self === coordinatorId) {
    return {
      askPeer: (siteId) => topics.chunkRequests(siteId, 'down'),
      chunksFromPeers: topics.everySite.chunks,
      asksFromPeers: topics.everySite.chunkRequests,
      chunksToPeer: (siteId) => topics.chunks(siteId, 'down'),
      peerOf: topics.siteOf,
    };
  }
  const onlyCoordinator = (peer: string) => {
    if (peer !== coordinatorId)
      throw new AppError('NOT_FOUND', 'A site exchanges blobs with the coordinator only.');
  };
  return {
    askPeer(peer) {
      onlyCoordinator(peer);
      return topics.chunkRequests(self, 'up');
    },
    chunksFromPeers: topics.chunks(self, 'down'),
    asksFromPeers: topics.chunkRequests(self, 'down'),
    chunksToPeer(peer) {
      onlyCoordinator(peer);
      return topics.chunks(self, 'up');
    },
    peerOf: () => coordinatorId,
  };
}
