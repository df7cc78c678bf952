/** The shell's own log file: what it did, and what the agent wrote to standard error. */
import { appendFileSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';

const maxBytes = 1024 * 1024;

export interface ShellLog {
  readonly folder: string;
  write(line: string): void;
}

/** Keeps `shell.log` and, from the time before it grew over 1 MiB, `shell.old.log`. */
export function createShellLog(folder: string): ShellLog {
  const file = join(folder, 'shell.log');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return {
    folder,
    write: (line) => {
      try {
        if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) > maxBytes) {
          renameSync(file, join(folder, 'shell.old.log'));
        }
        appendFileSync(file, `${new Date().toISOString()} ${line}\n`, { mode: 0o600 });
      } catch {
        // A full disk must not end the shell; the agent reports a full disk to the person.
      }
    },
  };
}
