/** Bounds what waits to be acknowledged, so that a slow broker costs time and not memory. */
import { AppError } from '../shared/errors.ts';
import { createConcurrencyLimiter } from './concurrency-limiter.ts';

export interface SendWindow {
  /**
   * Runs `send` when one of the window's places is free.
   * @throws AppError BROKER_UNREACHABLE when no place came free in time or too much waits already
   */
  run<T>(sizeBytes: number, timeoutMs: number, send: () => Promise<T>): Promise<T>;
}

/** @param places messages under way at once; 16 keep a link busy at a third of the memory of sending without a window */
export function createSendWindow(places = 16, maxWaitingBytes = 64 * 1024 * 1024): SendWindow {
  const limiter = createConcurrencyLimiter(places);
  let waitingBytes = 0;

  return {
    async run(sizeBytes, timeoutMs, send) {
      if (limiter.running < places) return limiter.run(send);
      if (waitingBytes + sizeBytes > maxWaitingBytes)
        throw new AppError(
          'BROKER_UNREACHABLE',
          'The broker accepts messages more slowly than Anneal sends them.',
        );
      waitingBytes += sizeBytes;
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(), timeoutMs);
      const leave = () => {
        clearTimeout(timer);
        waitingBytes -= sizeBytes;
      };
      const begin = () => {
        leave();
        return send();
      };
      return limiter.run(begin, late.signal).catch((error) => {
        if (!late.signal.aborted) throw error;
        leave();
        throw new AppError('BROKER_UNREACHABLE', 'The broker did not accept a message in time.');
      });
    },
  };
}
