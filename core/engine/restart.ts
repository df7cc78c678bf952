/** Whether and how a training job is given to a new process after its own has ended. */
import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { plural } from '../shared/text.ts';
import type { TrainEvent, trainJobSchema } from './trainer-protocol.ts';

export type GivenTrainJob = z.input<typeof trainJobSchema>;

/** How a process ended, as Node tells it. */
export interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Whether the system ended a process for lack of memory meanwhile; undefined when it does not tell. */
  oomKilled: boolean | undefined;
}

export interface Restart {
  job: GivenTrainJob;
  event: TrainEvent;
}

/** What Node exits with when its own memory is full or the runtime aborts: 128 + SIGABRT or SIGTRAP, and Windows' 3. */
const abortCodes: ReadonlySet<number> = new Set([3, 133, 134]);
const abortSignals: ReadonlySet<string> = new Set(['SIGABRT', 'SIGTRAP']);
const crashSignals: ReadonlySet<string> = new Set(['SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE']);

/**
 * Ended for lack of memory: half as many images at once, then the processor. Killed by somebody: the same
 * again. Crashed on an accelerator: the processor. A crash on the processor would come again, so it is reported.
 * @param microBatch images that were computed at once
 * @returns undefined when the job has failed
 */
export function restartAfter(end: ProcessEnd, job: GivenTrainJob, microBatch: number): Restart | undefined {
  const aborted = abortSignals.has(end.signal ?? '') || abortCodes.has(end.code ?? 0);
  if (end.signal === 'SIGKILL' && end.oomKilled === false) return again(job);
  if (end.signal === 'SIGKILL' || (aborted && job.device === 'cpu')) return withLess(job, microBatch);
  const crashed = aborted || crashSignals.has(end.signal ?? '') || (end.code ?? 0) !== 0;
  return crashed && job.device !== 'cpu' ? onProcessor(job) : undefined;
}

function again(job: GivenTrainJob): Restart {
  const message = 'The trainer process was killed and started again.';
  return { job, event: { kind: 'restarted', message, from: '', to: '' } };
}

function withLess(job: GivenTrainJob, microBatch: number): Restart | undefined {
  if (microBatch <= 1) return job.device === 'cpu' ? undefined : onProcessor(job);
  const smaller = Math.floor(microBatch / 2);
  const message = `The trainer process was killed, probably for lack of memory, and started again with ${smaller} instead of ${plural(microBatch, 'image')} at once.`;
  const event: TrainEvent = { kind: 'restarted', message, from: String(microBatch), to: String(smaller) };
  return { job: { ...job, microBatch: smaller }, event };
}

function onProcessor(job: GivenTrainJob): Restart {
  const message = `The trainer process ended while it used "${job.device}" and was started again on the processor.`;
  return {
    job: { ...job, device: 'cpu' },
    event: { kind: 'restarted', message, from: job.device, to: 'cpu' },
  };
}

/**
 * How many processes Linux has ended for lack of memory since it started, in this system or container.
 * Source: https://docs.kernel.org/filesystems/proc.html, `oom_kill` in /proc/vmstat.
 * @returns undefined where the system does not tell
 */
export function countOomKills(): number | undefined {
  try {
    const found = /^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'));
    return found === null ? undefined : Number(found[1]);
  } catch {
    return undefined;
  }
}
