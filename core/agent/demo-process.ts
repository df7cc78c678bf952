/** "Try the demo": the command line's demo as a child process. It leaves this installation as it is. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { DemoStatus } from '../api/contract.ts';
import { type Child, startChild } from '../process/child-process.ts';
import { AppError, errorReportSchema } from '../shared/errors.ts';
import { jsonText } from '../shared/text.ts';

const commandLine = fileURLToPath(new URL('../cli/anneal.ts', import.meta.url));
const startTimeoutMs = 60_000;
/** The demo stops its own processes first. */
const stopGraceMs = 20_000;

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
  let child: Child | null = null;
  let status: DemoStatus | null = null;

  function setStatus(next: DemoStatus | null): void {
    status = next;
    onChange();
  }

  async function start(): Promise<void> {
    if (child !== null) return;
    const outFolder = join(dataFolder, 'demo');
    const opened = Promise.withResolvers<void>();
    child = startChild(process.execPath, [commandLine, 'demo', '--out', outFolder, '--json', '--keep-open'], {
      lifeline: 'stdin',
      onLine(text) {
        const line = jsonText.pipe(lineSchema).safeParse(text).data;
        if (line?.type === 'screens') {
          setStatus({ state: 'running', url: line.url, accessCode: line.accessCode, outFolder: null });
          opened.resolve();
        } else if (line?.type === 'report' && status !== null) {
          setStatus({ ...status, state: 'finished', outFolder: line.outFolder });
        } else if (line?.type === 'error') {
          opened.reject(AppError.fromReport(line.error));
        }
      },
    });
    const timer = setTimeout(close, startTimeoutMs);
    void child.ended.then(() => {
      child = null;
      setStatus(null);
      opened.reject(new AppError('INTERNAL', 'The demo ended before it started.'));
    });
    await opened.promise.finally(() => clearTimeout(timer));
  }

  async function close(): Promise<void> {
    await child?.stop(stopGraceMs);
  }

  return {
    get status() {
      return status;
    },
    start,
    close,
  };
}
