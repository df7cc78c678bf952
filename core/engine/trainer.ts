/**
 * The agent's end of the trainer process: starts it when there is work, gives it one job at a time and
 * starts a new one after a crash. A GPU fault or memory shortage ends one job, never the agent.
 */
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';
import { type Child, startChild } from '../process/child-process.ts';
import { AppError, type ErrorCode, errorTable } from '../shared/errors.ts';
import { type Logger, silentLogger } from '../shared/logger.ts';
import { countOomKills, type ProcessEnd, restartAfter } from './restart.ts';
import {
  cancelled,
  evaluateResultSchema,
  type JobOptions,
  measureResultSchema,
  type TrainEvent,
  type Trainer,
  type TrainerReply,
  type TrainerRequest,
  trainerReplySchema,
  trainResultSchema,
} from './trainer-protocol.ts';

export interface TrainerOptions {
  logger?: Logger;
  /** A job that does not heed a cancel for this long has its process ended. */
  cancelTimeoutMs?: number;
  /** Where imported base models are; without it there are only the built-in ones. */
  modelsFolder?: string;
  /** How many processes the system has ended for lack of memory; {@link countOomKills} when absent. */
  oomKills?: () => number | undefined;
}

/** A running trainer; `await using` closes it. */
export interface TrainerHandle extends Trainer, AsyncDisposable {
  /** Process id of the trainer process; undefined before the first job and after a crash. */
  readonly pid: number | undefined;
}

type JobRequest = Exclude<TrainerRequest, { type: 'cancel' }>;

interface PendingJob {
  request: JobRequest;
  /** What happened outside of the trainer process. */
  events: TrainEvent[];
  /** Images computed at once, once the process has said so. */
  microBatch: number | undefined;
  /** Somebody wants it to end. */
  isAborted(): boolean;
  onProgress: JobOptions['onProgress'];
  /** Ends the job once; further calls do nothing. */
  settle(outcome: { result: unknown } | { error: AppError }): void;
}

const programFile = fileURLToPath(new URL('./trainer-process.ts', import.meta.url));
const closeTimeoutMs = 5_000;
/** How much of one piece of the process's own error output goes to the log. */
const errorOutputLimit = 4_096;

/**
 * Jobs wait in a queue and run one after the other in a process of its own.
 * A job rejects with the AppError that the process reports, with TRAINING_CANCELLED after an abort or
 * close, or with TRAINING_FAILED when the process ended in the middle of it. Training whose process was
 * killed or ran out of memory is given to a new process once (see restart.ts), and goes on from its checkpoint
 * if it has one.
 */
export function startTrainer(options: TrainerOptions = {}): TrainerHandle {
  const logger = options.logger ?? silentLogger;
  const cancelTimeoutMs = options.cancelTimeoutMs ?? 30_000;
  const oomKills = options.oomKills ?? countOomKills;
  let oomKillsBefore: number | undefined;
  const queue: PendingJob[] = [];
  let current: PendingJob | undefined;
  let child: Child | undefined;
  let closed = false;

  function advance(): void {
    if (current || closed) return;
    current = queue.shift();
    if (!current) return;
    // A process that died between jobs may not have been reported yet; its channel is closed already.
    if (!child?.node.connected) child = startProcess();
    oomKillsBefore = oomKills();
    // A process that could not be started, or dies now, says more by its end.
    if (!child.node.connected) return;
    child.node.send(current.request, (error) => {
      if (error) logger.warn({ event: 'trainer.send_failed' }, 'A message did not reach the trainer process');
    });
  }

  function startProcess(): Child {
    const { modelsFolder } = options;
    const started = startChild(
      process.execPath,
      [programFile, ...(modelsFolder === undefined ? [] : [modelsFolder])],
      {
        lifeline: 'ipc',
        // What kills the agent's group reaches it too.
        ownGroup: false,
      },
    );
    started.node.stderr?.setEncoding('utf8').on('data', (text: string) => {
      const output = text.slice(0, errorOutputLimit);
      logger.warn({ event: 'trainer.error_output', output }, 'The trainer process reported a problem');
    });
    started.node.on('message', receive);
    void started.ended.then(({ code, signal, startError: cause }) => {
      if (cause !== undefined) {
        lose(started, 'could not be started', { cause });
        return;
      }
      const kills = oomKills();
      const known = kills !== undefined && oomKillsBefore !== undefined;
      const oomKilled = known ? kills > oomKillsBefore! : undefined;
      lose(started, describeExit(code, signal), { end: { code, signal, oomKilled } });
    });
    return started;
  }

  /** The process is gone: its job is tried once more or fails, the queue goes on with a new process. */
  function lose(lost: Child, reason: string, { end, cause }: { end?: ProcessEnd; cause?: unknown }): void {
    if (child !== lost) return;
    child = undefined;
    const job = current;
    current = undefined;
    if (job) {
      logger.error({ event: 'trainer.lost', reason }, 'The trainer process ended during a job');
      if (end !== undefined && giveAgain(job, end)) queue.unshift(job);
      else
        job.settle({ error: new AppError('TRAINING_FAILED', `The trainer process ${reason}.`, { cause }) });
    }
    advance();
  }

  /** @returns false when the job has failed */
  function giveAgain(job: PendingJob, end: ProcessEnd): boolean {
    const { request } = job;
    if (request.type !== 'train' || job.events.length > 0 || job.isAborted()) return false;
    const restart = restartAfter(end, request.job, job.microBatch ?? request.job.training.batchSize);
    if (restart === undefined) return false;
    const { kind, from, to } = restart.event;
    logger.warn({ event: 'trainer.restarted', kind, from, to }, 'The job is given to a new trainer process');
    // A new id: what the lost process may still have said is of no interest.
    job.request = { ...request, id: randomUUID(), job: restart.job };
    job.events.push(restart.event);
    return true;
  }

  function receive(message: unknown): void {
    const parsed = trainerReplySchema.safeParse(message);
    if (!parsed.success || parsed.data.id !== current?.request.id) return;
    const job = current;
    if (parsed.data.type === 'prepared') {
      job.microBatch = parsed.data.microBatch;
      return;
    }
    if (parsed.data.type === 'progress') {
      const { progress } = parsed.data;
      const events = [...job.events, ...(progress.events ?? [])];
      job.onProgress?.(events.length === 0 ? progress : { ...progress, events });
      return;
    }
    current = undefined;
    job.settle(outcomeOf(parsed.data));
    advance();
  }

  function submit<T>(request: JobRequest, schema: z.ZodType<T>, jobOptions: JobOptions = {}): Promise<T> {
    const { signal, onProgress } = jobOptions;
    return new Promise<T>((resolve, reject) => {
      if (closed || signal?.aborted) {
        reject(cancelled());
        return;
      }
      let killTimer: NodeJS.Timeout | undefined;
      const job: PendingJob = {
        request,
        onProgress,
        events: [],
        microBatch: undefined,
        isAborted: () => signal?.aborted === true,
        settle(outcome) {
          signal?.removeEventListener('abort', abort);
          clearTimeout(killTimer);
          if ('error' in outcome) {
            reject(signal?.aborted ? cancelled() : outcome.error);
            return;
          }
          const result = schema.safeParse(withEvents(outcome.result, job.events));
          if (result.success) resolve(result.data);
          else reject(new AppError('INTERNAL', 'The trainer process sent a malformed result.'));
        },
      };
      const abort = () => {
        const waiting = queue.indexOf(job);
        if (waiting >= 0) {
          queue.splice(waiting, 1);
          job.settle({ error: cancelled() });
          return;
        }
        const working = child;
        working?.node.send({ type: 'cancel', id: job.request.id } satisfies TrainerRequest, () => {});
        killTimer = setTimeout(() => void working?.kill(), cancelTimeoutMs);
      };
      signal?.addEventListener('abort', abort);
      queue.push(job);
      advance();
    });
  }

  async function close(): Promise<void> {
    closed = true;
    for (const job of queue.splice(0)) job.settle({ error: cancelled() });
    const stopping = child;
    child = undefined;
    current?.settle({ error: cancelled() });
    current = undefined;
    await stopping?.stop(closeTimeoutMs);
  }

  return {
    get pid() {
      return child?.pid;
    },
    train: (job, jobOptions) =>
      submit({ type: 'train', id: randomUUID(), job }, trainResultSchema, jobOptions),
    evaluate: (job, jobOptions) =>
      submit({ type: 'evaluate', id: randomUUID(), job }, evaluateResultSchema, jobOptions),
    prototypes: (job, jobOptions) =>
      submit({ type: 'prototypes', id: randomUUID(), job }, trainResultSchema, jobOptions),
    measure: (job, jobOptions) =>
      submit({ type: 'measure', id: randomUUID(), job }, measureResultSchema, jobOptions),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function outcomeOf(reply: Exclude<TrainerReply, { type: 'progress' | 'prepared' }>) {
  if (reply.type === 'done') return { result: reply.result };
  const { code, message, action } = reply.error;
  const known: ErrorCode = code in errorTable ? (code as ErrorCode) : 'TRAINING_FAILED';
  return { error: new AppError(known, message, { action }) };
}

/** A result with what happened outside of the process before what happened in it. */
function withEvents(result: unknown, events: readonly TrainEvent[]): unknown {
  if (events.length === 0) return result;
  const own = (result as { events?: unknown } | null)?.events;
  return { ...(result as object), events: [...events, ...(Array.isArray(own) ? own : [])] };
}

function describeExit(code: number | null, signal: NodeJS.Signals | null): string {
  if (signal === 'SIGKILL') {
    return 'was killed by the system (SIGKILL), often because the computer ran out of memory';
  }
  return signal ? `was killed by the signal ${signal}` : `ended unexpectedly with exit code ${String(code)}`;
}
