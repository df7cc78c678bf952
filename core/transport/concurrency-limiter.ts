/** Lets a few go at a time, in order: uploads that the coordinator grants, chunks that are being sent. */
import { AppError } from '../shared/errors.ts';

export interface ConcurrencyLimiter {
  readonly running: number;
  readonly waiting: number;
  /** Takes a place when its turn comes, until it is disposed of. @throws AppError CANCELLED as {@link run} */
  enter(signal?: AbortSignal): Promise<Disposable>;
  /** Runs the task when its turn comes. @throws AppError CANCELLED when `signal` aborts while it waits */
  run<T>(task: () => Promise<T> | T, signal?: AbortSignal): Promise<T>;
}

/** @param limit tasks at once; eight sites with a window of four chunks keep a coordinator's line busy */
export function createConcurrencyLimiter(limit = 8): ConcurrencyLimiter {
  const turns: (() => void)[] = [];
  let running = 0;

  const place: Disposable = {
    [Symbol.dispose]() {
      const next = turns.shift();
      if (next === undefined) running--;
      else next();
    },
  };

  async function enter(signal?: AbortSignal): Promise<Disposable> {
    if (signal?.aborted) throw cancelled();
    if (running < limit) {
      running++;
      return place;
    }
    const turn = Promise.withResolvers<void>();
    const cancel = () => {
      const place = turns.indexOf(turn.resolve);
      if (place < 0) return;
      turns.splice(place, 1);
      turn.reject(cancelled());
    };
    turns.push(turn.resolve);
    signal?.addEventListener('abort', cancel, { once: true });
    // Whoever calls the turn hands its own place over, so `running` stays as it is.
    turn.promise.then(
      () => signal?.removeEventListener('abort', cancel),
      () => {},
    );
    await turn.promise;
    return place;
  }

  return {
    get running() {
      return running;
    },
    get waiting() {
      return turns.length;
    },
    enter,
    async run(task, signal) {
      using _place = await enter(signal);
      return await task();
    },
  };
}

export function cancelled(): AppError {
  return new AppError('CANCELLED', 'The transfer was stopped.');
}
