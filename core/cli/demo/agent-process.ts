/** An agent as a child process with its own data folder, as a hospital would run it on a machine of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { type AgentClient, createAgentClient } from '../../api/client.ts';
import { AppError, errorReportSchema } from '../../shared/errors.ts';

const agentProgram = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));
const startTimeoutMs = 60_000;
const stopTimeoutMs = 10_000;

const readySchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('ready'),
    socket: z.string(),
    url: z.string().nullable(),
    accessCode: z.string().nullable(),
  }),
  z.object({ type: z.literal('failed'), error: errorReportSchema }),
]);

export interface AgentProcess {
  readonly client: AgentClient;
  readonly dataFolder: string;
  readonly pid: number;
  readonly url: string | null;
  readonly accessCode: string | null;
  /** Resolves with the exit code when the process ends, whatever the reason. */
  readonly exited: Promise<number | null>;
  /** Ends it as an operating system would at shutdown. */
  stop(): Promise<void>;
  /** `kill -9`, for tests. */
  kill(): Promise<void>;
}

export interface AgentProcessOptions {
  dataFolder: string;
  /** Serve the screens on loopback too; 0 takes any free port. */
  uiPort?: number;
  threads?: number;
  approve?: boolean;
}

function argumentsOf(options: AgentProcessOptions): string[] {
  return [
    agentProgram,
    '--data',
    options.dataFolder,
    '--with-parent',
    ...(options.uiPort === undefined ? [] : ['--ui-port', String(options.uiPort)]),
    ...(options.threads === undefined ? [] : ['--threads', String(options.threads)]),
    ...(options.approve === true ? ['--approve'] : []),
  ];
}

async function waitUntilReady(
  child: ChildProcess,
): Promise<Extract<z.infer<typeof readySchema>, { type: 'ready' }>> {
  const timer = setTimeout(() => child.kill('SIGKILL'), startTimeoutMs);
  let errors = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-4000)));
  try {
    for await (const line of createInterface({ input: child.stdout! })) {
      const message = readySchema.safeParse(safeJson(line));
      if (!message.success) continue;
      if (message.data.type === 'ready') return message.data;
      const { code, message: text, action } = message.data.error;
      throw new AppError(code, text, { action });
    }
  } finally {
    clearTimeout(timer);
  }
  throw new AppError('INTERNAL', 'An agent process ended before it was ready.', { cause: new Error(errors) });
}

function safeJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

/** @throws AppError what the agent itself reports, INTERNAL when it does not start */
export async function startAgentProcess(options: AgentProcessOptions): Promise<AgentProcess> {
  const child = spawn(process.execPath, argumentsOf(options), { stdio: ['pipe', 'pipe', 'pipe'] });
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  const ready = await waitUntilReady(child);
  // Nothing else is printed; reading on keeps the pipes from filling up.
  child.stdout!.resume();
  child.stderr!.resume();
  return {
    client: createAgentClient(ready.socket),
    dataFolder: options.dataFolder,
    pid: child.pid!,
    url: ready.url,
    accessCode: ready.accessCode,
    exited,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
      child.stdin!.end();
      child.kill('SIGTERM');
      await exited;
      clearTimeout(timer);
    },
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
