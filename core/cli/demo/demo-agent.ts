/** An agent as a child process with its own data folder, as a hospital would run it on a machine of its own. */
import { fileURLToPath } from 'node:url';
import { type AgentReady, startAgentProcess } from '../../agent/agent-process.ts';
import { type AgentClient, createAgentClient } from '../../api/client.ts';
import { orphanGraceMs } from '../../process/parent-watch.ts';
import { AppError } from '../../shared/errors.ts';

const agentProgram = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));
const startTimeoutMs = 60_000;
const stopGraceMs = 10_000;
/** The last lines that a failed start is explained with. */
const keptLines = 40;

export interface DemoAgent {
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

export interface DemoAgentOptions {
  dataFolder: string;
  /** Serve the screens on loopback too; 0 takes any free port. */
  uiPort?: number;
  threads?: number;
  approve?: boolean;
}

/** @throws AppError what the agent itself reports, INTERNAL when it does not start */
export async function startDemoAgent(options: DemoAgentOptions): Promise<DemoAgent> {
  const { dataFolder, uiPort, threads, approve } = options;
  const ready = Promise.withResolvers<AgentReady>();
  const lines: string[] = [];
  const agent = startAgentProcess({
    nodePath: process.execPath,
    // Nothing of a demo needs an end in order.
    orphanGraceMs,
    args: [
      ...[agentProgram, '--data', dataFolder, '--with-parent'],
      ...(uiPort === undefined ? [] : ['--ui-port', String(uiPort)]),
      ...(threads === undefined ? [] : ['--threads', String(threads)]),
      ...(approve === true ? ['--approve'] : []),
    ],
    onReady: ready.resolve,
    log: (line) => lines.splice(0, lines.push(line) - keptLines),
  });
  const timer = setTimeout(() => void agent.kill(), startTimeoutMs);
  void agent.exited.then(({ report }) => {
    const cause = new Error(lines.join('\n'));
    ready.reject(
      report === null
        ? new AppError('INTERNAL', 'An agent process ended before it was ready.', { cause })
        : AppError.fromReport(report),
    );
  });
  const { socket, url = null, accessCode = null } = await ready.promise.finally(() => clearTimeout(timer));
  return {
    client: createAgentClient(socket),
    dataFolder,
    pid: agent.pid!,
    url,
    accessCode,
    exited: agent.exited.then(({ code }) => code),
    stop: () => agent.stop(stopGraceMs),
    kill: agent.kill,
  };
}
