/**
 * Keeps the agent running: starts it, starts it again after a crash with a growing pause, gives up after
 * several quick crashes, and ends it when the app quits. Knows nothing of Electron.
 */
import { type AgentExit, type AgentProcess, startAgentProcess } from '../../core/agent/agent-process.ts';
import { AppError, type ErrorReport } from '../../core/shared/errors.ts';

export type AgentState = 'stopped' | 'starting' | 'ready' | 'restarting' | 'failed';

export interface SupervisorTimes {
  /** Pause before the first restart; doubles with every further quick crash. */
  firstPauseMs: number;
  longestPauseMs: number;
  /** An agent that ran this long counts as healthy: its end starts the count of crashes anew. */
  healthyAfterMs: number;
  /** An agent that is not ready by then is ended and counts as crashed. */
  startTimeoutMs: number;
  /** How long the agent may take to end by itself. */
  stopGraceMs: number;
}

export interface SupervisorOptions {
  nodePath: string;
  args: readonly string[];
  log(line: string): void;
  onState?(state: AgentState): void;
  /** Called when no further restart is tried; `retry()` begins again. */
  onGaveUp?(report: ErrorReport): void;
  /** Quick crashes in a row after which it gives up. */
  maxQuickCrashes?: number;
  times?: Partial<SupervisorTimes>;
}

export interface AgentSupervisor {
  readonly state: AgentState;
  readonly pid: number | undefined;
  start(): void;
  /** Starts again after it gave up. */
  retry(): void;
  /**
   * The socket of a running agent, waiting for one while it starts.
   * @throws AppError AGENT_UNREACHABLE when there is none within `timeoutMs`, it gave up, or it was stopped
   */
  whenReady(timeoutMs: number): Promise<string>;
  /** Ends the agent for good; returns when its process is gone. */
  stop(): Promise<void>;
}

interface Waiter {
  resolve(socket: string): void;
  reject(error: AppError): void;
}

const defaultTimes: SupervisorTimes = {
  firstPauseMs: 500,
  longestPauseMs: 15_000,
  healthyAfterMs: 60_000,
  startTimeoutMs: 60_000,
  stopGraceMs: 8_000,
};

const unreachable = (message: string) =>
  new AppError('AGENT_UNREACHABLE', message, { action: 'Wait a moment, or quit Anneal and start it again.' });

/** @returns a supervisor that has not started anything yet */
export function createAgentSupervisor(options: SupervisorOptions): AgentSupervisor {
  const times = { ...defaultTimes, ...options.times };
  const maxQuickCrashes = options.maxQuickCrashes ?? 5;
  const waiters = new Set<Waiter>();
  let state: AgentState = 'stopped';
  let agent: AgentProcess | null = null;
  let socket: string | null = null;
  let quickCrashes = 0;
  let timer: NodeJS.Timeout | undefined;

  function enter(next: AgentState): void {
    state = next;
    if (next !== 'ready') socket = null;
    if (next === 'failed' || next === 'stopped') {
      for (const waiter of waiters) waiter.reject(unreachable('The background service is not running.'));
    }
    options.onState?.(next);
  }

  function launch(): void {
    const startedAt = performance.now();
    const started = startAgentProcess({
      nodePath: options.nodePath,
      args: options.args,
      env: agentEnvironment(process.env),
      log: options.log,
      onReady: (ready) => {
        if (agent !== started || state === 'stopped') return;
        clearTimeout(timer);
        socket = ready.socket;
        enter('ready');
        for (const waiter of waiters) waiter.resolve(ready.socket);
      },
    });
    agent = started;
    options.log(`agent started (pid ${started.pid})`);
    timer = setTimeout(() => {
      options.log(`agent was not ready after ${times.startTimeoutMs} ms`);
      void started.stop(times.stopGraceMs);
    }, times.startTimeoutMs);
    void started.exited.then((exit) => {
      clearTimeout(timer);
      agent = null;
      if (state !== 'stopped') onCrash(exit, performance.now() - startedAt);
    });
  }

  function onCrash(exit: AgentExit, ranMs: number): void {
    options.log(`agent ended after ${Math.round(ranMs)} ms (code ${exit.code}, signal ${exit.signal})`);
    quickCrashes = ranMs >= times.healthyAfterMs ? 1 : quickCrashes + 1;
    // An agent that said why it cannot start would say the same again.
    if (exit.report !== null || quickCrashes >= maxQuickCrashes) {
      enter('failed');
      options.onGaveUp?.(exit.report ?? crashReport(quickCrashes));
      return;
    }
    enter('restarting');
    timer = setTimeout(launch, Math.min(times.firstPauseMs * 2 ** (quickCrashes - 1), times.longestPauseMs));
  }

  function start(): void {
    if (state !== 'stopped' && state !== 'failed') return;
    quickCrashes = 0;
    enter('starting');
    launch();
  }

  return {
    get state() {
      return state;
    },
    get pid() {
      return agent?.pid;
    },
    start,
    retry: start,
    whenReady: (timeoutMs) => {
      if (socket !== null) return Promise.resolve(socket);
      if (state === 'failed' || state === 'stopped') {
        return Promise.reject(unreachable('The background service is not running.'));
      }
      return waitFor(waiters, timeoutMs);
    },
    stop: async () => {
      clearTimeout(timer);
      enter('stopped');
      await agent?.stop(times.stopGraceMs);
    },
  };
}

function waitFor(waiters: Set<Waiter>, timeoutMs: number): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    const timer = setTimeout(
      () => waiter.reject(unreachable('The background service does not answer.')),
      timeoutMs,
    );
    const settle = () => {
      clearTimeout(timer);
      waiters.delete(waiter);
    };
    const waiter: Waiter = {
      resolve: (socket) => {
        settle();
        resolve(socket);
      },
      reject: (error) => {
        settle();
        reject(error);
      },
    };
    waiters.add(waiter);
  });
}

function crashReport(times: number): ErrorReport {
  return new AppError('INTERNAL', `The background service stopped ${times} times in a row.`, {
    action: 'Try again; if it happens again, send the log file to whoever looks after Anneal here.',
  }).toReport();
}

/** The shell's environment without what would change how plain Node starts. */
function agentEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => name !== 'NODE_OPTIONS' && !name.startsWith('ELECTRON_')),
  );
}
