/**
 * For what no part of the agent has caught. A full disk and a database that another program holds pass, and everything that
 * failed of them is tried again; after anything else the process is in a state that nobody knows, and ends.
 */
import { type ErrorCode, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';

const passing: ReadonlySet<ErrorCode> = new Set(['DISK_FULL', 'DATABASE_BUSY']);

/** Whether what failed succeeds by itself when it is tried again later. */
export const isPassing = (error: unknown): boolean => passing.has(toAppError(error).code);

export function keepRunning(logger: Logger): void {
  const caught = (error: unknown) => {
    const { code } = toAppError(error);
    const goesOn = isPassing(error);
    logger.error({ error, code }, goesOn ? 'not caught; the agent goes on' : 'not caught; the agent ends');
    if (goesOn) return;
    console.error(error);
    process.exit(1);
  };
  process.on('uncaughtException', caught);
  process.on('unhandledRejection', caught);
}
