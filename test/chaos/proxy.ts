/** A TCP proxy on loopback between a site and its broker that passes bytes on, late, slowly, or not at all. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** How the link is now; what is absent is as on a good link. */
export interface LinkState {
  /** Each piece arrives so much later. */
  delayMs?: number;
  bytesPerSecond?: number;
  /** Nothing passes, and nobody is told. */
  isBlackHole?: boolean;
  /** New connections are reset as soon as they are made. */
  refuses?: boolean;
}

export interface LinkProxy {
  readonly port: number;
  set(state: LinkState): void;
  /** Resets every connection that there is. */
  reset(): void;
  close(): Promise<void>;
}

/** Pieces that travel at a bounded rate are cut to this. */
const pieceBytes = 4_096;
const lookAgainMs = 20;

export async function startProxy(target: () => number): Promise<LinkProxy> {
  let state: LinkState = {};
  const sockets = new Set<Socket>();
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
  };

  /** One direction: what is read is written in order, as the link allows at that moment. */
  async function pass(from: Socket, to: Socket): Promise<void> {
    for await (const read of from) {
      const bytes = read as Buffer;
      for (let start = 0; start < bytes.length; start += pieceBytes) {
        const piece = bytes.subarray(start, start + pieceBytes);
        while (state.isBlackHole === true && !to.destroyed) await sleep(lookAgainMs);
        const { delayMs = 0, bytesPerSecond } = state;
        const waitMs =
          (start === 0 ? delayMs : 0) +
          (bytesPerSecond === undefined ? 0 : (piece.length / bytesPerSecond) * 1000);
        if (waitMs > 0) await sleep(waitMs);
        if (to.destroyed) return;
        if (!to.write(piece)) await Promise.race([once(to, 'drain'), once(to, 'close')]);
      }
    }
    to.end();
  }

  const server = createServer((incoming) => {
    keep(incoming);
    if (state.refuses === true) {
      incoming.resetAndDestroy();
      return;
    }
    const outgoing = connect(target(), '127.0.0.1');
    keep(outgoing);
    for (const [from, to] of [
      [incoming, outgoing],
      [outgoing, incoming],
    ] as const)
      pass(from, to).catch(() => to.resetAndDestroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const reset = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    set: (next) => {
      state = next;
    },
    reset,
    async close() {
      state = {};
      const closed = once(server, 'close');
      server.close();
      reset();
      await closed;
    },
  };
}
