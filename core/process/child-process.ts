/**
 * Starts and ends child processes. A child leads a process group of its own, so that ending it ends what it started
 * too, and Ctrl-C on a terminal reaches its parent alone, which then ends it in order. No shell is involved.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { execa } from 'execa';
import { watchedByChild } from './parent-watch.ts';

const isWindows = process.platform === 'win32';
const groupPollMs = 20;

/**
 * Runs a program to its end and gives its exit code and output; execa's options apply. It never rejects: a program
 * that is missing, fails, takes longer than `timeout` or prints more than `maxBuffer` characters gives `failed`.
 * One that is not done in time, or when its parent ends, is killed with all it started.
 */
export const runProgram = execa({
  stdin: 'ignore',
  reject: false,
  killDescendants: true,
  killSignal: 'SIGKILL',
  maxBuffer: 16 * 2 ** 20,
  stripFinalNewline: false,
});

/**
 * What a program of the operating system printed, or null when it is missing, fails or takes longer than `timeoutMs`.
 * Its language is English, since its words are read by us.
 */
export async function outputOf(
  program: string,
  parameters: readonly string[],
  timeoutMs: number,
): Promise<string | null> {
  const result = await runProgram(program, parameters, { timeout: timeoutMs, env: { LC_ALL: 'C' } });
  return result.failed ? null : result.stdout;
}

export interface ChildEnd {
  /** Null when a signal ended it, or when it could not be started. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it could not be started. */
  readonly startError?: unknown;
}

export interface ChildOptions {
  cwd?: string;
  /** The whole environment; by default this process's own. */
  env?: NodeJS.ProcessEnv;
  /**
   * What tells the child that its parent is gone, however that ended: its standard input closes, or its IPC channel.
   * Without either it is sent SIGTERM when its parent exits.
   */
  lifeline?: 'stdin' | 'ipc';
  /** With a lifeline: how long a child that calls `watchParent` may go on without its parent (ms). */
  orphanGraceMs?: number | undefined;
  /** `inherit`: it prints where its parent does. */
  output?: 'pipe' | 'inherit';
  /** False leaves it in its parent's group, for a child without children that ends with its parent. */
  ownGroup?: boolean;
  /** Called with each line of its standard output. */
  onLine?: (line: string) => void;
  /** Called with each line of its standard error. */
  onErrorLine?: (line: string) => void;
}

export interface Child {
  /** Undefined when it could not be started. */
  readonly pid: number | undefined;
  readonly isRunning: boolean;
  /** Node's own object, for its IPC channel and its standard input. */
  readonly node: ChildProcess;
  /** Settles once, when it has ended and its output has been read; never rejects. */
  readonly ended: Promise<ChildEnd>;
  /**
   * Asks it to end by its lifeline and SIGTERM (with an IPC channel, which it needs for its farewell, by that alone);
   * what is left of its group after `graceMs` is killed.
   */
  stop(graceMs: number): Promise<void>;
  /** Kills it with all it started. */
  kill(): Promise<void>;
}

export function startChild(
  program: string,
  parameters: readonly string[],
  options: ChildOptions = {},
): Child {
  const { lifeline, output = 'pipe', ownGroup = true, cwd, env } = options;
  const subprocess = execa(program, parameters, {
    ...(cwd === undefined ? {} : { cwd }),
    env: { ...env, ...(lifeline === undefined ? {} : watchedByChild(options.orphanGraceMs)) },
    extendEnv: env === undefined,
    stdin: lifeline === 'stdin' ? 'pipe' : output === 'inherit' ? 'inherit' : 'ignore',
    stdout: output,
    stderr: output,
    ipc: lifeline === 'ipc',
    buffer: false,
    reject: false,
    cleanup: lifeline === undefined,
    killDescendants: ownGroup,
    forceKillAfterDelay: false,
  });
  const { nodeChildProcess: node, pid } = subprocess;
  node.stdin?.on('error', () => {}); // The pipe breaks when the child ends first; `ended` tells that.
  readLines(node.stdout, options.onLine);
  readLines(node.stderr, options.onErrorLine);
  const ended = subprocess.then((result): ChildEnd => {
    const { exitCode: code = null, signal = null } = result;
    return {
      code,
      signal: signal as NodeJS.Signals | null,
      ...(pid === undefined && { startError: result.cause }),
    };
  });
  const kill = async () => {
    subprocess.kill('SIGKILL');
    await ended;
  };
  return {
    pid,
    get isRunning() {
      return pid !== undefined && node.exitCode === null && node.signalCode === null;
    },
    node,
    ended,
    async stop(graceMs) {
      node.stdin?.end();
      if (node.connected) node.disconnect();
      // On Windows there is no SIGTERM to handle.
      if (lifeline !== 'ipc' && !(isWindows && lifeline === 'stdin')) node.kill('SIGTERM');
      const deadline = new AbortController();
      const timer = setTimeout(() => deadline.abort(), graceMs);
      await Promise.race([ended, once(deadline.signal, 'abort')]);
      while (ownGroup && !deadline.signal.aborted && hasGroup(pid)) await wait(groupPollMs);
      clearTimeout(timer);
      await kill();
    },
    kill,
  };
}

function readLines(stream: Readable | null, onLine: ((line: string) => void) | undefined): void {
  if (stream !== null && onLine !== undefined) createInterface({ input: stream }).on('line', onLine);
}

/** Whether a process of the group is left; Windows has no groups. */
function hasGroup(pid: number | undefined): boolean {
  try {
    return pid !== undefined && !isWindows && process.kill(-pid, 0);
  } catch {
    return false;
  }
}
