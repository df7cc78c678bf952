/** One log file per process in the data folder, as JSON lines. */
import { mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger as PinoLogger, pino } from 'pino';
import type { Logger } from '../shared/logger.ts';

/** Errors are logged by type, code and stack of our own code; their messages may be shown to people anyway. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error);
  const { name, message, stack, cause } = error;
  return { name, message, stack, ...(cause === undefined ? {} : { cause: describeError(cause) }) };
}

interface LineFile {
  write(line: string): void;
  /** Lines that were not written since this was asked last; 0 while the file cannot be written. */
  takeLost(): number;
}

/**
 * Appends lines at once. One that cannot be written is counted and given up: pino's own destination ends the process at a
 * full disk, or waits for room with everything standing still.
 */
function openLineFile(file: string): LineFile {
  const descriptor = openSync(file, 'a', 0o600);
  /** A disk that fills up may take half a line; the other half comes before anything else. */
  let rest = Buffer.alloc(0);
  let lost = 0;
  let isFailing = false;

  function tryToWrite(bytes: Buffer): Buffer<ArrayBuffer> {
    let left = Buffer.from(bytes);
    try {
      while (left.length > 0) left = left.subarray(writeSync(descriptor, left));
      isFailing = false;
    } catch {
      isFailing = true;
    }
    return left;
  }

  return {
    write(line) {
      rest = tryToWrite(rest);
      const bytes = Buffer.from(line);
      const left = rest.length > 0 ? bytes : tryToWrite(bytes);
      if (left.length === bytes.length) lost += 1;
      else if (left.length > 0) rest = left;
    },
    takeLost() {
      const lines = isFailing ? 0 : lost;
      lost -= lines;
      return lines;
    },
  };
}

/** A log that cannot be written, as on a full disk, ends nothing: it goes on when there is room, and says how much is missing. */
export function createFileLogger(folder: string, processName: string): Logger {
  mkdirSync(folder, { recursive: true });
  const file = openLineFile(join(folder, `${processName}.log`));
  const logger: PinoLogger = pino(
    { base: { process: processName, pid: process.pid }, serializers: { error: describeError } },
    { write: file.write },
  );
  const write = (level: 'info' | 'warn' | 'error') => (fields: object, message: string) => {
    logger[level](fields, message);
    const lines = file.takeLost();
    if (lines > 0) logger.warn({ lines }, 'lines of this log were lost while the disk was full');
  };
  return { info: write('info'), warn: write('warn'), error: write('error') };
}
