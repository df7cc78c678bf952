/** The agent as a child process, and what it says to its parent on standard output. */
import { z } from 'zod';
import { startChild } from '../process/child-process.ts';
import { type ErrorReport, errorReportSchema } from '../shared/errors.ts';
import { jsonText } from '../shared/text.ts';

/** One JSON object a line, written by main.ts. */
const agentLine = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('ready'),
    socket: z.string().min(1),
    /** Loopback address of the screens and the code that opens them, where they are served. */
    url: z.string().nullish(),
    accessCode: z.string().nullish(),
  }),
  z.object({ type: z.literal('failed'), error: errorReportSchema }),
]);
export type AgentLine = z.input<typeof agentLine>;
export type AgentReady = Extract<z.infer<typeof agentLine>, { type: 'ready' }>;

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
  /** Kills it with everything it started, as a power failure would. */
  kill(): Promise<void>;
}

export interface AgentProcessOptions {
  nodePath: string;
  /** The agent's source file and its arguments. */
  args: readonly string[];
  /** By default this process's own. */
  env?: NodeJS.ProcessEnv;
  /** How long it may take to end in order when its parent was killed (ms). */
  orphanGraceMs?: number;
  onReady(ready: AgentReady): void;
  /** One line for the log; the agent's standard error comes this way too. */
  log(line: string): void;
}

/** As an agent takes to say goodbye to its coordinator. */
const orderlyEndMs = 10_000;

/**
 * Starts the agent. Its standard input stays open as a lifeline: with `--with-parent` it ends when its parent is
 * gone, however that ended.
 */
export function startAgentProcess(options: AgentProcessOptions): AgentProcess {
  let report: ErrorReport | null = null;
  const { pid, ended, stop, kill } = startChild(options.nodePath, options.args, {
    ...(options.env === undefined ? {} : { env: options.env }),
    lifeline: 'stdin',
    orphanGraceMs: options.orphanGraceMs ?? orderlyEndMs,
    onLine(line) {
      const said = jsonText.pipe(agentLine).safeParse(line).data;
      if (said?.type === 'ready') options.onReady(said);
      else if (said?.type === 'failed') report = said.error;
      else options.log(`agent: ${line}`);
    },
    onErrorLine: (line) => options.log(`agent: ${line}`),
  });
  const exited = ended.then(({ code, signal, startError }): AgentExit => {
    if (startError !== undefined) {
      const reason = (startError as NodeJS.ErrnoException).code ?? 'unknown';
      options.log(`agent could not be started: ${reason}`);
    }
    return { code, signal, report };
  });
  return { pid, exited, stop, kill };
}
