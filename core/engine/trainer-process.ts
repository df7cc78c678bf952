/**
 * The trainer process: a plain Node process that trainer.ts starts. It takes one job at a time over the
 * IPC channel, runs it on an engine and ends when its parent goes away.
 */
import { constants, setPriority } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import sharp from 'sharp';
import { createCatalogue } from '../models/catalogue.ts';
import { watchParent } from '../process/parent-watch.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { loadEngine } from './engines.ts';
import { runEvaluateJob } from './evaluation-job.ts';
import { createExecutableCache } from './executable-cache.ts';
import type { JobContext } from './job-context.ts';
import { runMeasureJob } from './measure-job.ts';
import { createPixelSource } from './pixel-source.ts';
import { runPrototypeJob } from './prototype-job.ts';
import {
  cancelled,
  type ReceivedRequest,
  type TrainerReply,
  type TrainProgress,
  trainerRequestSchema,
} from './trainer-protocol.ts';
import { runTrainJob } from './training-job.ts';

/** 150×150 crops: about 7,900 of them. */
const cropCacheBytes = 512 * 2 ** 20;
/** Training, features and evaluation, each of them for this round's ranks and the last one's. */
const executableCapacity = 6;
const releaseTimeoutMs = 2_000;
const progressIntervalMs = 200;
/** Failures whose cause a developer needs to see. */
const loggedCodes: ReadonlySet<string> = new Set(['TRAINING_FAILED', 'DEVICE_UNAVAILABLE', 'INTERNAL']);

type JobRequest = Exclude<ReceivedRequest, { type: 'cancel' }>;

/** The folder of imported base models, if the parent names one. */
const catalogue = createCatalogue(process.argv[2]);
const executables = createExecutableCache(loadEngine, executableCapacity);
const pixels = createPixelSource(cropCacheBytes);
const waiting: JobRequest[] = [];
const cancelledIds = new Set<string>();
let runningId: string | undefined;

function receive(message: unknown): void {
  const request = trainerRequestSchema.safeParse(message);
  if (!request.success) {
    refuse(message);
  } else if (request.data.type === 'cancel') {
    const { id } = request.data;
    if (id === runningId || waiting.some((job) => job.id === id)) cancelledIds.add(id);
  } else {
    waiting.push(request.data);
    void work();
  }
}

/** A malformed job still gets an answer when it names itself, so that its caller does not wait for ever. */
function refuse(message: unknown): void {
  const id = (message as { id?: unknown } | null)?.id;
  if (typeof id !== 'string') return;
  send({
    type: 'failed',
    id,
    error: new AppError('CONFIG_INVALID', 'The training job is malformed.').toReport(),
  });
}

async function work(): Promise<void> {
  if (runningId !== undefined) return;
  for (let request = waiting.shift(); request; request = waiting.shift()) {
    runningId = request.id;
    await answer(request);
    cancelledIds.delete(request.id);
    runningId = undefined;
  }
}

async function answer(request: JobRequest): Promise<void> {
  try {
    send({ type: 'done', id: request.id, result: await run(request) });
  } catch (thrown) {
    const error = toAppError(thrown);
    // What is written here goes to the agent's log. Other failures explain themselves, and their causes
    // can hold the path of an image.
    if (loggedCodes.has(error.code)) console.error(error.cause ?? error);
    send({ type: 'failed', id: request.id, error: error.toReport() });
  }
}

function run(request: JobRequest) {
  const context: JobContext = {
    executables,
    pixels,
    loadBase: (id) => catalogue.load(id),
    onPrepared: (microBatch) => send({ type: 'prepared', id: request.id, microBatch }),
    onProgress: throttleProgress((progress) => send({ type: 'progress', id: request.id, progress })),
    async pause() {
      await nextTurn();
      if (cancelledIds.has(request.id)) throw cancelled();
    },
  };
  if (request.type === 'measure') return runMeasureJob(request.job, context);
  sharp.concurrency(request.job.threads);
  if (request.type === 'prototypes') return runPrototypeJob(request.job, context);
  return request.type === 'train' ? runTrainJob(request.job, context) : runEvaluateJob(request.job, context);
}

/** Passes on the first, the last and at most five reports a second between them. */
function throttleProgress(report: (progress: TrainProgress) => void): (progress: TrainProgress) => void {
  let lastMs = Number.NEGATIVE_INFINITY;
  return (progress) => {
    const nowMs = performance.now();
    if (nowMs - lastMs < progressIntervalMs && progress.step < progress.steps) return;
    lastMs = nowMs;
    report(progress);
  };
}

function send(reply: TrainerReply): void {
  if (process.connected) process.send?.(reply, undefined, undefined, () => {});
}

/** Training must not slow down whatever else the computer does. */
function lowerPriority(): void {
  try {
    setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // Not permitted in some containers: train at normal priority then.
  }
}

watchParent();
lowerPriority();
process.on('disconnect', () => {
  // A session on a graphics processor that is not released takes the process down with a fault.
  const timer = setTimeout(() => process.exit(0), releaseTimeoutMs);
  void executables.release().finally(() => {
    clearTimeout(timer);
    process.exit(0);
  });
});
process.on('message', receive);
