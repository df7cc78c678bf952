/** Asks programs of the operating system what hardware there is. */
import { execFile } from 'node:child_process';

const maxOutputBytes = 4 * 2 ** 20;

/**
 * What a program printed, or null when it is missing, fails or takes longer than `timeoutMs`. Its language is
 * set to English, since its words are read by us.
 */
export function runTool(program: string, args: readonly string[], timeoutMs: number): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(
      program,
      [...args],
      {
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: maxOutputBytes,
        windowsHide: true,
        env: { ...process.env, LC_ALL: 'C' },
      },
      (error, stdout) => resolve(error === null ? stdout : null),
    );
  });
}
