/** "Try the demo": the command line's demo as a child process. It leaves this installation as it is. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { DemoStatus } from '../api/contract.ts';
import { AppError, errorReportSchema } from '../shared/errors.ts';

const commandLine = fileURLToPath(new URL('../cli/anneal.ts', import.meta.url));
const startTimeoutMs = 60_000;

const lineSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('screens'), url: z.string(), accessCode: z.string() }),
  z.object({ type: z.literal('report'), outFolder: z.string() }),
  z.object({ type: z.literal('error'), error: errorReportSchema }),
]);

export interface DemoProcess {
  readonly status: DemoStatus | null;
  /** Resolves when the demo's screens can be opened. @throws AppError what the demo reports */
  start(): Promise<void>;
  close(): Promise<void>;
}

export function createDemoProcess(dataFolder: string, onChange: () => void): DemoProcess {
  let child: ChildProcess | null = null;
  let status: DemoStatus | null = null;

  function setStatus(next: DemoStatus | null): void {
    status = next;
    onChange();
  }

  async function start(): Promise<void> {
    if (child !== null) return;
    const outFolder = join(dataFolder, 'demo');
    const started = spawn(
      process.execPath,
      [commandLine, 'demo', '--out', outFolder, '--json', '--keep-open'],
      { stdio: ['pipe', 'pipe', 'ignore'] },
    );
    child = started;
    const opened = Promise.withResolvers<void>();
    const timer = setTimeout(() => started.kill('SIGTERM'), startTimeoutMs);
    createInterface({ input: started.stdout! }).on('line', (text) => {
      const line = lineSchema.safeParse(parseJson(text)).data;
      if (line?.type === 'screens') {
        setStatus({ state: 'running', url: line.url, accessCode: line.accessCode, outFolder: null });
        opened.resolve();
      } else if (line?.type === 'report' && status !== null) {
        setStatus({ ...status, state: 'finished', outFolder: line.outFolder });
      } else if (line?.type === 'error') {
        opened.reject(new AppError(line.error.code, line.error.message, { action: line.error.action }));
      }
    });
    started.once('exit', () => {
      child = null;
      setStatus(null);
      opened.reject(new AppError('INTERNAL', 'The demo ended before it had begun.'));
    });
    try {
      await opened.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    get status() {
      return status;
    },
    start,
    async close() {
      const running = child;
      if (running === null) return;
      const ended = new Promise((resolve) => running.once('exit', resolve));
      // The demo stops its own processes when its input closes.
      running.stdin?.end();
      running.kill('SIGTERM');
      await ended;
    },
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
