/** Runs a piece of work on a network in a process of its own, and waits for what comes of it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { removeUnfinished } from '../models/import-model.ts';
import { startChild } from '../process/child-process.ts';
import { AppError } from '../shared/errors.ts';
import { type Logger, silentLogger } from '../shared/logger.ts';
import type { ImportProgress } from './leak-test-service.ts';
import { type ModelOrder, type ModelResult, modelReplySchema } from './model-work-protocol.ts';

export interface ModelWorkOptions {
  readonly onProgress?: ((progress: ImportProgress) => void) | undefined;
  /** Aborting ends the process; of an import nothing is left. */
  readonly signal?: AbortSignal | undefined;
  /** Gets what the process writes to its standard error: the runtime's own words. */
  readonly logger?: Logger | undefined;
  /** After so long it is ended. */
  readonly limitMs?: number | undefined;
}

type ResultOf<Order extends ModelOrder> = Extract<
  ModelResult,
  { type: { inspect: 'found'; import: 'imported'; count: 'counted' }[Order['type']] }
>;

const programFile = fileURLToPath(new URL('./model-work-process.ts', import.meta.url));
/** So long an import that was asked to end may tidy up; other work leaves nothing. */
const graceMs = 3_000;

/**
 * @throws AppError CANCELLED after an abort; MODEL_FILE_INVALID when the process ends or takes longer than `limitMs`; otherwise
 *   what opening, importing or measuring the model throws
 */
export async function runModelWork<Order extends ModelOrder>(
  order: Order,
  { onProgress, signal, logger = silentLogger, limitMs }: ModelWorkOptions = {},
): Promise<ResultOf<Order>> {
  if (signal?.aborted === true) throw stopped();
  const child = startChild(process.execPath, [programFile], {
    lifeline: 'ipc',
    onErrorLine: (line) =>
      logger.warn(
        { event: 'model_work.error_output', line: line.slice(0, 4_096) },
        'The work on a model reported a problem',
      ),
  });
  const outcome = Promise.withResolvers<ResultOf<Order>>();
  child.node.stdout?.resume();
  child.node.on('message', (message: unknown) => {
    const reply = modelReplySchema.safeParse(message);
    if (!reply.success)
      outcome.reject(new AppError('INTERNAL', 'The work on a model sent a malformed report.'));
    else if (reply.data.type === 'progress') onProgress?.(reply.data);
    else if (reply.data.type === 'failed') outcome.reject(AppError.fromReport(reply.data.error));
    else outcome.resolve(reply.data as ResultOf<Order>);
  });
  void child.ended.then(({ signal: killedBy, startError: cause }) => {
    const why = killedBy === 'SIGKILL' ? ', often because the computer ran out of memory' : '';
    outcome.reject(
      new AppError('MODEL_FILE_INVALID', `Opening the network ended before it was done${why}.`, {
        action: 'Close other programs and try again; a smaller network needs less memory.',
        cause,
      }),
    );
  });
  const ended = new AbortController();
  const abort = async () => {
    if (order.type === 'import') {
      child.node.send({ type: 'cancel' }, () => {});
      await sleep(graceMs, undefined, { signal: ended.signal }).catch(() => {});
    }
    outcome.reject(stopped());
  };
  signal?.addEventListener('abort', abort);
  const timer =
    limitMs === undefined ? undefined : setTimeout(() => outcome.reject(tooLong(limitMs)), limitMs);
  child.node.send(order, () => {}); // When it does not arrive, the end of the process tells.
  try {
    return await outcome.promise;
  } finally {
    signal?.removeEventListener('abort', abort);
    ended.abort();
    clearTimeout(timer);
    await child.kill();
    if (order.type === 'import') await removeUnfinished(order.modelsFolder, order.workId).catch(() => {});
  }
}

const stopped = (): AppError => new AppError('CANCELLED', 'The work on this network was stopped.');

const tooLong = (limitMs: number): AppError =>
  new AppError(
    'MODEL_FILE_INVALID',
    `Opening the network was not done after ${Math.round(limitMs / 60_000)} minutes.`,
    { action: 'Close other programs and try again; if it happens again, choose a smaller network.' },
  );
