/** One agent as a process of its own, as a service manager keeps it: started again whenever it is down, whatever for. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type AgentProcess, type AgentReady, startAgentProcess } from '../../core/agent/agent-process.ts';
import { type AgentClient, createAgentClient } from '../../core/api/client.ts';
import type { ErrorReport } from '../../core/shared/errors.ts';
import type { BrokerPlace } from './mosquitto.ts';
import type { Member } from './schedule.ts';

const agentProgram = fileURLToPath(new URL('../../core/agent/main.ts', import.meta.url));
const layer = (name: string) => `--import=${new URL(`./preload/${name}.ts`, import.meta.url).href}`;

/** What a process did that nobody asked for. */
export interface Mishap {
  member: Member;
  what: string;
}

export interface ChaosAgent {
  readonly member: Member;
  readonly folder: string;
  readonly dataFolder: string;
  /** Says by how many ms its clock is wrong; not on a disk that is filled. */
  readonly clockFile: string;
  readonly pid: number | undefined;
  /** Starts that were refused in one sentence, in this episode; a full disk is a reason. */
  readonly refusals: ErrorReport[];
  /** Of the process that runs now. @throws Error while there is none */
  client(): AgentClient;
  /** What takes the process down is done one after the other. */
  alone<T>(work: () => Promise<T>): Promise<T>;
  /** Starts it and keeps trying. @throws Error when it does not come up in time */
  start(): Promise<void>;
  /** `kill -9` of the agent alone: what it started must notice by itself. */
  kill(): Promise<void>;
  stop(): Promise<void>;
  /** To a process that runs; nothing otherwise. */
  signal(signal: NodeJS.Signals): void;
  /** Processes that the running agent has started. */
  children(): number[];
  /** What the agent printed on its standard error, and is no warning of Node's own. */
  readonly errorLines: string[];
}

export interface ChaosAgentOptions {
  member: Member;
  /** Holds the data folder and what controls the faults. */
  folder: string;
  /** Load what can put the clock wrong. */
  withClock: boolean;
  /** Of a coordinator: where its external broker is. */
  broker?: BrokerPlace | undefined;
  onMishap(mishap: Mishap): void;
}

const startWithinMs = 60_000;
const stopGraceMs = 20_000;
const againAfterMs = 500;
/** A trainer notices that its agent is gone within a second; a busy machine takes longer. */
const orphanGraceMs = 5_000;

interface Running {
  process: AgentProcess;
  ready: AgentReady;
}

export function createChaosAgent(options: ChaosAgentOptions): ChaosAgent {
  const { member, folder, withClock, broker, onMishap } = options;
  const dataFolder = join(folder, 'data');
  const clockFile = `${folder}.clock.json`;
  const layers = [
    ...(withClock ? [layer('clock')] : []),
    ...(broker === undefined ? [] : [layer('mosquitto')]),
  ];
  const refusals: ErrorReport[] = [];
  const errorLines: string[] = [];
  let running: Running | null = null;
  /** That its end was asked for. */
  let ending = false;
  let queue: Promise<unknown> = Promise.resolve();

  function onLine(line: string): void {
    const text = line.replace(/^agent: /, '');
    if (/ExperimentalWarning|--trace-warnings|DeprecationWarning/.test(text)) return;
    if (errorLines.push(text) > 200) errorLines.shift();
  }

  async function startOnce(): Promise<boolean> {
    const ready = Promise.withResolvers<AgentReady | null>();
    const env = {
      ...process.env,
      ANNEAL_CHAOS_CLOCK: clockFile,
      ...(layers.length > 0 && { NODE_OPTIONS: layers.join(' ') }),
      ...(broker !== undefined && { ANNEAL_CHAOS_BROKER: JSON.stringify(broker) }),
    };
    const started = startAgentProcess({
      nodePath: process.execPath,
      args: [agentProgram, '--data', dataFolder, '--approve', '--threads', '1', '--with-parent'],
      env,
      onReady: ready.resolve,
      log: onLine,
    });
    const timer = setTimeout(() => void started.kill(), startWithinMs);
    void started.exited.then((exit) => {
      ready.resolve(null);
      if (running?.process !== started) return;
      running = null;
      if (!ending)
        onMishap({
          member,
          what: `ended by itself (${exit.signal ?? exit.code}): ${errorLines.slice(-5).join(' | ')}`,
        });
    });
    const said = await ready.promise;
    clearTimeout(timer);
    if (said === null) {
      const { report, code, signal } = await started.exited;
      if (report !== null) refusals.push(report);
      else
        onMishap({ member, what: `did not start (${signal ?? code}): ${errorLines.slice(-5).join(' | ')}` });
      return false;
    }
    ending = false;
    running = { process: started, ready: said };
    return true;
  }

  /** Nothing that an agent started may outlive it for long. */
  async function watchOrphans(started: readonly ProcessFacts[]): Promise<void> {
    await sleep(orphanGraceMs);
    const alive = allProcesses();
    const left = started.filter(({ pid, startedAt }) =>
      alive.some((one) => one.pid === pid && one.startedAt === startedAt && one.state !== 'Z'),
    );
    if (left.length > 0)
      onMishap({ member, what: `${left.length} process(es) outlived the agent by ${orphanGraceMs} ms` });
    for (const { pid } of left) end(pid);
  }

  const agent: ChaosAgent = {
    member,
    folder,
    dataFolder,
    clockFile,
    refusals,
    errorLines,
    get pid() {
      return running?.process.pid;
    },
    client() {
      if (running === null) throw new Error(`${member} is down`);
      return createAgentClient(running.ready.socket);
    },
    alone(work) {
      const done = queue.then(work);
      queue = done.catch(() => {});
      return done;
    },
    async start() {
      const until = Date.now() + 2 * startWithinMs;
      while (running === null) {
        if (await startOnce()) return;
        if (Date.now() > until) {
          const { message = 'no reason given' } = refusals.at(-1) ?? {};
          throw new Error(`${member} does not start any more: ${message}`);
        }
        await sleep(againAfterMs);
      }
    },
    async kill() {
      const dying = running;
      if (dying === null) return;
      ending = true;
      const started = childrenOf(dying.process.pid!);
      end(dying.process.pid!);
      await dying.process.exited;
      running = null;
      void watchOrphans(started);
    },
    async stop() {
      const stopping = running;
      if (stopping === null) return;
      ending = true;
      const startedAt = Date.now();
      await stopping.process.stop(stopGraceMs);
      running = null;
      if (Date.now() - startedAt >= stopGraceMs)
        onMishap({ member, what: `did not end within ${stopGraceMs} ms` });
    },
    signal(signal) {
      if (running !== null) process.kill(running.process.pid!, signal);
    },
    children() {
      const own = running?.process.pid;
      return own === undefined ? [] : childrenOf(own).map(({ pid }) => pid);
    },
  };
  return agent;
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {} // It has ended meanwhile.
}

interface ProcessFacts {
  pid: number;
  state: string;
  parentId: number;
  /** Clock ticks since boot: a number may be another process's by now. */
  startedAt: string;
}

/** From proc(5): the name in parentheses may hold anything. */
function allProcesses(): ProcessFacts[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return [{ pid: Number(pid), state: fields[0]!, parentId: Number(fields[1]), startedAt: fields[19]! }];
      } catch {
        return []; // It has ended meanwhile.
      }
    });
}

const childrenOf = (pid: number) => allProcesses().filter(({ parentId }) => parentId === pid);

/** Resident bytes of a process; 0 when it has ended. */
export function residentBytes(pid: number): number {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
