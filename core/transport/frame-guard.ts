/**
 * Stands between a socket and the broker's parser, which would gather a packet of any size in memory before
 * anybody could look at it. The guard reads the packet lengths (MQTT 3.1.1 section 2.2) as the bytes pass and
 * breaks the connection at the header of a packet that is too large.
 */
import { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';

export interface FrameLimits {
  /** The first packet, from somebody not known yet. */
  firstPacketBytes: number;
  /** Each packet after it. */
  packetBytes: number;
}

/** Follows the packet borders in a stream of bytes. */
export function createFrameScanner(limits: FrameLimits): (bytes: Uint8Array) => boolean {
  const connectType = 0x10;
  let first = true;
  let bodyLeft = 0;
  let inHeader = false;
  let length = 0;
  let multiplier = 1;

  /** Takes one byte of a fixed header. False when the packet may not come. */
  function takeHeaderByte(byte: number): boolean {
    if (!inHeader) {
      if (first && byte !== connectType) return false;
      inHeader = true;
      length = 0;
      multiplier = 1;
      return true;
    }
    length += (byte & 0x7f) * multiplier;
    multiplier *= 128;
    if (byte >= 0x80) return multiplier <= 128 ** 3;
    inHeader = false;
    bodyLeft = length;
    const limit = first ? limits.firstPacketBytes : limits.packetBytes;
    first = false;
    return length <= limit;
  }

  return (bytes) => {
    let at = 0;
    while (at < bytes.length) {
      if (bodyLeft > 0) {
        const skipped = Math.min(bodyLeft, bytes.length - at);
        bodyLeft -= skipped;
        at += skipped;
      } else if (!takeHeaderByte(bytes[at++]!)) {
        return false;
      }
    }
    return true;
  };
}

/** A stream that carries the socket's bytes as long as they keep to the limits, with backpressure both ways. */
export function createFrameGuard(socket: TLSSocket, limits: FrameLimits): Duplex {
  const withinLimits = createFrameScanner(limits);
  const guard = new Duplex({
    allowHalfOpen: false,
    read() {
      socket.resume();
    },
    write(chunk: Buffer, _encoding, done) {
      socket.write(chunk, (error) => done(error));
    },
    writev(chunks, done) {
      socket.cork();
      for (const [index, { chunk }] of chunks.entries()) {
        socket.write(chunk, index === chunks.length - 1 ? (error) => done(error) : undefined);
      }
      socket.uncork();
    },
    final(done) {
      socket.end(done);
    },
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  socket.on('data', (bytes: Buffer) => {
    if (!withinLimits(bytes)) guard.destroy(new Error('a packet is larger than allowed'));
    else if (!guard.push(bytes)) socket.pause();
  });
  socket.on('end', () => guard.push(null));
  socket.on('error', (error) => guard.destroy(error));
  socket.on('close', () => guard.destroy());
  return guard;
}
