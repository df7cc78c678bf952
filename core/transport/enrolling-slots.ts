/**
 * Connections without a certificate: few at once and short, and none that keeps an invited site out. When there are too
 * many, the oldest of the busiest address makes room: joining takes a second, and whoever waits for longer wants something else.
 */
import type { Duplex } from 'node:stream';

export interface EnrollingLimits {
  /** Connections at once: in all, and from one address. */
  enrolling: number;
  enrollingPerAddress: number;
  /** How long each may last (ms). */
  enrollingMs: number;
}

export interface EnrollingSlots {
  take(stream: Duplex, address: string): void;
}

export function createEnrollingSlots(limits: EnrollingLimits): EnrollingSlots {
  /** By address, oldest first. */
  const open = new Map<string, Set<Duplex>>();

  function makeRoom(address: string): void {
    const own = open.get(address);
    const all = [...open.values()];
    const isFull = all.reduce((sum, { size }) => sum + size, 0) >= limits.enrolling;
    if (own !== undefined && own.size >= limits.enrollingPerAddress) dropOldest(own);
    else if (isFull) dropOldest(all.reduce((busiest, each) => (each.size > busiest.size ? each : busiest)));
  }

  function dropOldest(streams: Set<Duplex>): void {
    const [oldest] = streams;
    if (oldest === undefined) return;
    // Its close event may come a little later.
    streams.delete(oldest);
    oldest.destroy();
  }

  return {
    take(stream, address) {
      makeRoom(address);
      const own = open.get(address) ?? new Set();
      open.set(address, own.add(stream));
      const timer = setTimeout(() => stream.destroy(), limits.enrollingMs);
      stream.once('close', () => {
        clearTimeout(timer);
        own.delete(stream);
        if (own.size === 0 && open.get(address) === own) open.delete(address);
      });
    },
  };
}
