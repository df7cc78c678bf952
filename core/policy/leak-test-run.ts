/** Runs a leak test in a process of its own and waits for the report. */
import { fileURLToPath } from 'node:url';
import type { LeakReport } from '../config/leak-report.ts';
import { startChild } from '../process/child-process.ts';
import { AppError } from '../shared/errors.ts';
import { type Logger, silentLogger } from '../shared/logger.ts';
import { type LeakProgress, type LeakRequest, leakReplySchema } from './leak-test-protocol.ts';

export interface LeakRunOptions {
  readonly onProgress?: ((progress: LeakProgress) => void) | undefined;
  /** Aborting ends the process. */
  readonly signal?: AbortSignal | undefined;
  /** Gets what the process writes to its standard error: the runtime's own words. */
  readonly logger?: Logger | undefined;
}

/** With the identity of what was measured. */
export interface MeasuredLeak {
  readonly sha256: string;
  readonly report: LeakReport;
}

const programFile = fileURLToPath(new URL('./leak-test-process.ts', import.meta.url));

/**
 * @throws AppError CANCELLED after an abort; TRAINING_FAILED when the network does not run or the process ends, as when
 *   memory runs out; otherwise what opening the model throws
 */
export async function runLeakTest(
  request: LeakRequest,
  { onProgress, signal, logger = silentLogger }: LeakRunOptions = {},
): Promise<MeasuredLeak> {
  if (signal?.aborted === true) throw cancelled();
  const child = startChild(process.execPath, [programFile], {
    lifeline: 'ipc',
    ownGroup: false,
    onErrorLine: (line) =>
      logger.warn(
        { event: 'leak_test.error_output', line: line.slice(0, 4_096) },
        'The leak test reported a problem',
      ),
  });
  const outcome = Promise.withResolvers<MeasuredLeak>();
  child.node.stdout?.resume();
  child.node.on('message', (message: unknown) => {
    const reply = leakReplySchema.safeParse(message);
    if (!reply.success) outcome.reject(new AppError('INTERNAL', 'The leak test sent a malformed report.'));
    else if (reply.data.type === 'progress') onProgress?.(reply.data);
    else if (reply.data.type === 'done') outcome.resolve(reply.data);
    else outcome.reject(AppError.fromReport(reply.data.error));
  });
  void child.ended.then(({ signal: killedBy, startError: cause }) => {
    const why = killedBy === 'SIGKILL' ? ', often because the computer ran out of memory' : '';
    outcome.reject(
      new AppError('TRAINING_FAILED', `The leak test of the base model ended before it was done${why}.`, {
        action: 'Close other programs and try again; a smaller model needs less memory.',
        cause,
      }),
    );
  });
  const abort = () => outcome.reject(cancelled());
  signal?.addEventListener('abort', abort);
  child.node.send(request, () => {}); // When it does not arrive, the end of the process tells.
  try {
    const { sha256, report } = await outcome.promise;
    return { sha256, report };
  } finally {
    signal?.removeEventListener('abort', abort);
    await child.kill();
  }
}

const cancelled = (): AppError => new AppError('CANCELLED', 'The leak test was stopped.');
