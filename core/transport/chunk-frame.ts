/**
 * A chunk on the wire: version (1 byte), kind (1 byte), SHA-256 of the whole blob (32 bytes), index (unsigned
 * 32-bit, big-endian), then the bytes. Not signed: the broker lets only one sender on a chunk topic, and the
 * hash of the whole blob, which came in a signed message, decides.
 */
import { chunkBytes } from './messages.ts';

const version = 1;
const headerBytes = 38;

export interface ChunkFrame {
  /** `missing`: the sender does not hold the blob or may not give it; no bytes follow. */
  kind: 'data' | 'missing';
  sha256: string;
  index: number;
  bytes: Uint8Array;
}

export function encodeChunkFrame({ bytes, ...head }: ChunkFrame): Uint8Array {
  const frame = startChunkFrame(head, bytes.length);
  frame.bytes.set(bytes);
  return frame.encoded;
}

/** A frame whose bytes are still to be written, where they will be sent from. */
export interface StartedFrame {
  readonly encoded: Uint8Array;
  /** A view of the end of `encoded`. */
  readonly bytes: Uint8Array;
}

export function startChunkFrame(
  { kind, sha256, index }: Omit<ChunkFrame, 'bytes'>,
  sizeBytes: number,
): StartedFrame {
  const encoded = Buffer.allocUnsafe(headerBytes + sizeBytes);
  encoded[0] = version;
  encoded[1] = kind === 'data' ? 0 : 1;
  encoded.write(sha256, 2, 'hex');
  encoded.writeUInt32BE(index, 34);
  return { encoded, bytes: encoded.subarray(headerBytes) };
}

/** Null for what is no chunk. */
export function decodeChunkFrame(payload: Uint8Array): ChunkFrame | null {
  const buffer = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  const kind = buffer[1];
  if (
    buffer.length < headerBytes ||
    buffer.length > headerBytes + chunkBytes ||
    buffer[0] !== version ||
    (kind !== 0 && kind !== 1)
  ) {
    return null;
  }
  return {
    kind: kind === 0 ? 'data' : 'missing',
    sha256: buffer.toString('hex', 2, 34),
    index: buffer.readUInt32BE(34),
    bytes: buffer.subarray(headerBytes),
  };
}
