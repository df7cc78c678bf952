/** Lets a few go at a time, in order: uploads that the coordinator grants, chunks that are being sent. */
import PQueue from 'p-queue';
import { AppError } from '../shared/errors.ts';

export interface ConcurrencyLimiter {
  readonly running: number;
  readonly waiting: number;
  /** Runs the task when its turn comes. @throws AppError CANCELLED when `signal` aborts while it waits */
  run<T>(task: () => Promise<T> | T, signal?: AbortSignal): Promise<T>;
}

/** @param limit tasks at once; eight sites with a window of four chunks keep a coordinator's line busy */
export function createConcurrencyLimiter(limit = 8): ConcurrencyLimiter {
  const queue = new PQueue({ concurrency: limit });

  async function run<T>(task: () => Promise<T> | T, signal?: AbortSignal): Promise<T> {
    if (signal?.aborted) throw cancelled();
    // p-queue would also give up on a running task, whose place is not free before it has ended.
    const whileWaiting = new AbortController();
    const cancel = () => whileWaiting.abort(cancelled());
    signal?.addEventListener('abort', cancel);
    const begin = async () => {
      signal?.removeEventListener('abort', cancel);
      return task();
    };
    return queue.add(begin, { signal: whileWaiting.signal });
  }

  return {
    get running() {
      return queue.pending;
    },
    get waiting() {
      return queue.size;
    },
    run,
  };
}

export function cancelled(): AppError {
  return new AppError('CANCELLED', 'The transfer was stopped.');
}
