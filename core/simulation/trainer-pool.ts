/**
 * A few trainer processes that do the jobs of all simulated sites. A job goes to a process that has done one of its
 * shape lately, because what was compiled for it is still there; runs that began earlier come first.
 */
import { statSync } from 'node:fs';
import { startTrainer } from '../engine/trainer.ts';
import { cancelled, type JobOptions, type Trainer } from '../engine/trainer-protocol.ts';
import type { Logger } from '../shared/logger.ts';

export interface TrainerPool extends AsyncDisposable {
  readonly workers: number;
  /** A trainer for the sites of one run; closing it does nothing. */
  forRun(): RunTrainer;
  close(): Promise<void>;
}

export interface RunTrainer extends Trainer {
  /** Time that this run's jobs took in trainer processes, without waiting for one (ms). */
  readonly computeMs: number;
  /** Of these jobs: how many there were. */
  readonly jobs: number;
}

export interface TrainerPoolOptions {
  workers: number;
  modelsFolder: string;
  logger: Logger;
}

interface PoolJob {
  /** Order of its run: earlier runs first. */
  order: number;
  /** What is compiled for one job of a shape serves the others. */
  shape: string;
  start(worker: Trainer): Promise<void>;
}

interface Worker {
  readonly trainer: Trainer;
  busy: boolean;
  /** Shapes of its last jobs, the newest last. */
  shapes: string[];
}

/** As many compiled graphs as a trainer process keeps, two for each job that trains with a frozen part. */
const rememberedShapes = 4;

/** @param options `workers`: processes; they are started with the first job that needs them */
export function createTrainerPool(options: TrainerPoolOptions): TrainerPool {
  const { modelsFolder, logger } = options;
  const workers: Worker[] = Array.from({ length: options.workers }, () => ({
    trainer: startTrainer({ modelsFolder, logger }),
    busy: false,
    shapes: [],
  }));
  const queue: PoolJob[] = [];
  let runs = 0;
  let closed = false;

  function dispatch(): void {
    for (const worker of workers) {
      if (closed || queue.length === 0) return;
      if (worker.busy) continue;
      const job = takeFor(worker);
      worker.busy = true;
      worker.shapes = [...worker.shapes.filter((shape) => shape !== job.shape), job.shape].slice(
        -rememberedShapes,
      );
      void job.start(worker.trainer).finally(() => {
        worker.busy = false;
        dispatch();
      });
    }
  }

  function takeFor(worker: Worker): PoolJob {
    const cost = (job: PoolJob) => {
      if (worker.shapes.includes(job.shape)) return 0;
      // What another process is ready for had better wait for it, unless there is nothing else to do.
      return workers.some((other) => other.shapes.includes(job.shape)) ? 2 : 1;
    };
    const best = queue.reduce((a, b) => ((cost(b) - cost(a) || b.order - a.order) < 0 ? b : a));
    queue.splice(queue.indexOf(best), 1);
    return best;
  }

  function forRun(): RunTrainer {
    const order = runs++;
    const spent = { computeMs: 0, jobs: 0 };

    function submit<T>(
      shape: string,
      { signal, ...rest }: JobOptions = {},
      work: (worker: Trainer, jobOptions: JobOptions) => Promise<T>,
    ): Promise<T> {
      return new Promise<T>((resolve, reject) => {
        if (closed || signal?.aborted) return reject(cancelled());
        const leave = () => {
          const waiting = queue.indexOf(job);
          if (waiting < 0) return;
          queue.splice(waiting, 1);
          reject(cancelled());
        };
        const job: PoolJob = {
          order,
          shape,
          async start(worker) {
            signal?.removeEventListener('abort', leave);
            const startMs = performance.now();
            await work(worker, signal === undefined ? rest : { ...rest, signal }).then(resolve, reject);
            spent.computeMs += performance.now() - startMs;
            spent.jobs += 1;
          },
        };
        signal?.addEventListener('abort', leave, { once: true });
        queue.push(job);
        dispatch();
      });
    }

    return {
      get computeMs() {
        return spent.computeMs;
      },
      get jobs() {
        return spent.jobs;
      },
      train: (job, jobOptions) =>
        submit(shapeOf('train', job), jobOptions, (worker, own) => worker.train(job, own)),
      evaluate: (job, jobOptions) =>
        submit(shapeOf('evaluate', job), jobOptions, (worker, own) => worker.evaluate(job, own)),
      prototypes: (job, jobOptions) =>
        submit(shapeOf('prototypes', job), jobOptions, (worker, own) => worker.prototypes(job, own)),
      measure: (job, jobOptions) =>
        submit(`measure ${job.baseId}`, jobOptions, (worker, own) => worker.measure(job, own)),
      async close() {},
    };
  }

  async function close(): Promise<void> {
    closed = true;
    queue.length = 0;
    await Promise.all(workers.map(({ trainer }) => trainer.close()));
  }

  return { workers: workers.length, forRun, close, [Symbol.asyncDispose]: close };
}

/**
 * States of the same size have the same ranks, as good as always; a wrong guess costs a compilation, no more.
 */
function shapeOf(kind: string, job: { baseId: string; stateFile: string; mode?: string }): string {
  const bytes = statSync(job.stateFile, { throwIfNoEntry: false })?.size ?? 0;
  return `${kind} ${job.baseId} ${job.mode ?? ''} ${bytes}`;
}
