/** What serving and fetching have in common. */
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { Peers } from '../store/position-tables.ts';
import type { Link } from './link.ts';
import type { Stamp } from './own-position.ts';
import type { Signer } from './signature.ts';

/** What a chunk is asked or sent for, to count bytes by round and site. */
export type TransferListener = (peer: string, sha256: string, sizeBytes: number) => void;

export interface BlobExchangeOptions {
  link: Link;
  federation: string;
  /** `signer.id` says which side this is: `coordinator`, or a site. */
  signer: Signer;
  /** Public key of a peer (base64url), null when unknown or revoked. */
  keyOf(peer: string): string | null;
  blobs: BlobStore;
  /** Whether a peer may have a blob that this side holds; null: not known now, so it gets no answer and asks again. Asked for each request. */
  maySend(peer: string, sha256: string): boolean | null;
  /**
   * Where it is given, a blob is read and held against its hash before it is served, and again from time to time. One that
   * is damaged is not served, and this hears of it.
   */
  onDamaged?: (sha256: string) => void;
  /** Chunk bytes handed to the broker, repeats included. */
  onSent?: TransferListener;
  /** Chunk bytes that arrived, repeats included. */
  onReceived?: TransferListener;
  /** A peer sent what is no message, or a chunk that nobody asked for. */
  onFault?: (peer: string, fault: 'message' | 'chunk') => void;
  /** First wait for a chunk before asking again; doubles up to six times as long. Default 10 s. */
  chunkTimeoutMs?: number;
  logger?: Logger;
  /** Places of this side's requests; undefined to a peer that knows of none. */
  stamp?: (() => Stamp | undefined) | undefined;
  /** What is known of the peers' places. */
  peers?: Pick<Peers, 'current' | 'epoch'> | undefined;
}

/** Names of one direction as seen from here. */
export interface ExchangeTopics {
  /** Where this side asks a peer for chunks, and where the peer's chunks come. */
  askPeer(peer: string): string;
  chunksFromPeers: string;
  /** Where peers ask this side, and where it sends chunks to. */
  asksFromPeers: string;
  chunksToPeer(peer: string): string;
  /** The peer that a topic belongs to, or null. */
  peerOf(topic: string): string | null;
}
