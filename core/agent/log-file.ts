/** One log file per process in the data folder, as JSON lines. */
import { join } from 'node:path';
import { destination, type Logger as PinoLogger, pino } from 'pino';
import type { Logger } from '../shared/logger.ts';

/** Errors are logged by type, code and stack of our own code; their messages may be shown to people anyway. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error);
  const { name, message, stack, cause } = error;
  return { name, message, stack, ...(cause === undefined ? {} : { cause: describeError(cause) }) };
}

export function createFileLogger(folder: string, processName: string): Logger & { flush(): void } {
  const sink = destination({
    dest: join(folder, `${processName}.log`),
    mkdir: true,
    sync: true,
    mode: 0o600,
  });
  const logger: PinoLogger = pino(
    { base: { process: processName, pid: process.pid }, serializers: { error: describeError } },
    sink,
  );
  return {
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    flush: () => sink.flushSync(),
  };
}
