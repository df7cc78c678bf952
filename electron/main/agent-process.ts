/**
 * One run of the agent as a child process: start, its lines on standard output, and an end that leaves
 * nothing behind. When to start it again is the supervisor's business.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { type ErrorReport, errorReportSchema } from '../../core/shared/errors.ts';

/** What the agent says on standard output, one JSON object a line. */
const agentLine = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready'), socket: z.string().min(1) }),
  z.object({ type: z.literal('failed'), error: errorReportSchema }),
]);

export interface AgentExit {
  code: number | null;
  signal: string | null;
  /** Why the agent could not start, when it said so before it ended. */
  report: ErrorReport | null;
}

export interface AgentProcess {
  readonly pid: number | undefined;
  /** Settles once, when the process has ended; never rejects. */
  readonly exited: Promise<AgentExit>;
  /** Asks the agent to end, and after `graceMs` kills it with everything it started. */
  stop(graceMs: number): Promise<void>;
}

export interface AgentProcessOptions {
  nodePath: string;
  /** The agent's source file and its arguments. */
  args: readonly string[];
  onReady(socket: string): void;
  /** One line for the log; the agent's standard error comes this way too. */
  log(line: string): void;
}

/**
 * Starts the agent. Its standard input stays open as a lifeline: the agent ends when the shell is gone,
 * however the shell ended.
 */
export function startAgentProcess(options: AgentProcessOptions): AgentProcess {
  const ownGroup = process.platform !== 'win32';
  const child = spawn(options.nodePath, [...options.args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: agentEnvironment(process.env),
    windowsHide: true,
    // A group of its own on POSIX: Ctrl-C in a terminal reaches the shell alone, which then ends the agent
    // in order, and a last kill reaches the trainer as well.
    detached: ownGroup,
  });
  let report: ErrorReport | null = null;
  child.stdin?.on('error', () => {}); // The pipe breaks when the agent ends first; `exited` tells that.
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const parsed = parseLine(line);
      if (parsed?.type === 'ready') options.onReady(parsed.socket);
      else if (parsed?.type === 'failed') report = parsed.error;
      else options.log(`agent: ${line}`);
    });
  }
  if (child.stderr) {
    createInterface({ input: child.stderr }).on('line', (line) => options.log(`agent: ${line}`));
  }
  const exited = new Promise<AgentExit>((resolve) => {
    child.once('error', (error) => {
      options.log(`agent could not be started: ${(error as NodeJS.ErrnoException).code ?? 'unknown'}`);
      if (child.pid === undefined) resolve({ code: null, signal: null, report });
    });
    // "close" and not "exit": the last lines have been read by then.
    child.once('close', (code, signal) => resolve({ code, signal, report }));
  });
  return { pid: child.pid, exited, stop: (graceMs) => stopProcess(child, exited, graceMs, ownGroup) };
}

async function stopProcess(
  child: ChildProcess,
  exited: Promise<AgentExit>,
  graceMs: number,
  ownGroup: boolean,
): Promise<void> {
  child.stdin?.end();
  // On Windows there is no SIGTERM to handle: the closed input is the request.
  if (ownGroup) child.kill('SIGTERM');
  let timer: NodeJS.Timeout | undefined;
  const inTime = await Promise.race([
    exited.then(() => true),
    new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), graceMs);
    }),
  ]);
  clearTimeout(timer);
  if (!inTime) killTree(child, ownGroup);
  await exited;
}

/** Ends the process and whatever it started, without asking. */
function killTree(child: ChildProcess, ownGroup: boolean): void {
  if (child.pid === undefined) return;
  if (!ownGroup) {
    spawn('taskkill', ['/pid', String(child.pid), '/T', '/F'], { windowsHide: true, stdio: 'ignore' });
    return;
  }
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    child.kill('SIGKILL'); // The group had gone already.
  }
}

function parseLine(line: string): z.infer<typeof agentLine> | null {
  if (!line.startsWith('{')) return null;
  try {
    return agentLine.safeParse(JSON.parse(line)).data ?? null;
  } catch {
    return null; // A log line that merely begins like JSON.
  }
}

/** The shell's environment without what would change how plain Node starts. */
export function agentEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => name !== 'NODE_OPTIONS' && !name.startsWith('ELECTRON_')),
  );
}
