/** Bounds what waits to be acknowledged, so that a slow broker costs time and not memory. */
import { AppError } from '../shared/errors.ts';

export interface SendWindow {
  /**
   * Runs `send` when one of the window's places is free.
   * @throws AppError BROKER_UNREACHABLE when no place came free in time or too much waits already
   */
  run<T>(sizeBytes: number, timeoutMs: number, send: () => Promise<T>): Promise<T>;
}

/** @param places messages under way at once; 16 keep a link busy at a third of the memory of sending without a window */
export function createSendWindow(places = 16, maxWaitingBytes = 64 * 1024 * 1024): SendWindow {
  const waiting: (() => void)[] = [];
  let free = places;
  let waitingBytes = 0;

  async function enter(sizeBytes: number, timeoutMs: number): Promise<void> {
    if (free > 0) {
      free--;
      return;
    }
    if (waitingBytes + sizeBytes > maxWaitingBytes) {
      throw new AppError(
        'BROKER_UNREACHABLE',
        'The broker accepts messages more slowly than Anneal sends them.',
      );
    }
    waitingBytes += sizeBytes;
    const turn = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      const place = waiting.indexOf(turn.resolve);
      if (place < 0) return;
      waiting.splice(place, 1);
      turn.reject(new AppError('BROKER_UNREACHABLE', 'The broker did not accept a message in time.'));
    }, timeoutMs);
    waiting.push(turn.resolve);
    try {
      await turn.promise;
    } finally {
      clearTimeout(timer);
      waitingBytes -= sizeBytes;
    }
  }

  return {
    async run(sizeBytes, timeoutMs, send) {
      await enter(sizeBytes, timeoutMs);
      try {
        return await send();
      } finally {
        const next = waiting.shift();
        if (next === undefined) free++;
        else next();
      }
    },
  };
}
