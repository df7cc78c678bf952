import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ErrorReport } from '../../core/shared/errors.ts';
import {
  type AgentState,
  type AgentSupervisor,
  createAgentSupervisor,
  type SupervisorTimes,
} from '../../electron/main/agent-supervisor.ts';

const agentFile = fileURLToPath(new URL('../fixtures/shell/agent.ts', import.meta.url));
const quick: SupervisorTimes = {
  firstPauseMs: 20,
  longestPauseMs: 80,
  healthyAfterMs: 60_000,
  startTimeoutMs: 10_000,
  stopGraceMs: 2_000,
};

let folder: string;
let supervisor: AgentSupervisor | null = null;
let states: AgentState[];
let reports: ErrorReport[];
let lines: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-supervisor-'));
  states = [];
  reports = [];
  lines = [];
});

afterEach(async () => {
  await supervisor?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function supervise(flags: string[], times: Partial<SupervisorTimes> = {}): AgentSupervisor {
  const socket =
    process.platform === 'win32' ? `\\\\.\\pipe\\${folder.split('\\').at(-1)}` : join(folder, 'agent.sock');
  supervisor = createAgentSupervisor({
    nodePath: process.execPath,
    args: [agentFile, '--socket', socket, ...flags],
    log: (line) => lines.push(line),
    onState: (state) => states.push(state),
    onGaveUp: (report) => reports.push(report),
    maxQuickCrashes: 3,
    times: { ...quick, ...times },
  });
  return supervisor;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function until(condition: () => boolean): Promise<void> {
  await expect.poll(condition, { timeout: 15_000, interval: 20 }).toBe(true);
}

describe('agent supervisor', () => {
  it('starts the agent, tells its socket, and ends it', async () => {
    const agent = supervise([]);

    agent.start();
    const socket = await agent.whenReady(10_000);
    const pid = agent.pid!;
    await agent.stop();

    expect(socket).toContain('anneal-supervisor-');
    expect(states).toEqual(['starting', 'ready', 'stopped']);
    expect(isRunning(pid)).toBe(false);
  });

  it('starts it again after kill -9', async () => {
    const agent = supervise([]);
    agent.start();
    const socket = await agent.whenReady(10_000);
    const killed = agent.pid!;

    if (existsSync(socket)) rmSync(socket); // The real agent takes a stale socket away itself.
    process.kill(killed, 'SIGKILL');
    await until(() => states.at(-1) === 'restarting' || states.length > 3);
    await agent.whenReady(10_000);

    expect(agent.pid).not.toBe(killed);
    expect(states).toEqual(['starting', 'ready', 'restarting', 'ready']);
    expect(reports).toEqual([]);
  });

  it('gives up after several quick crashes, and tries again when asked', async () => {
    const agent = supervise(['--crash']);

    agent.start();
    await until(() => reports.length === 1);
    agent.retry();
    await until(() => reports.length === 2);

    expect(lines.filter((line) => line.startsWith('agent started'))).toHaveLength(6);
    expect(reports[0]?.message).toBe('The background service stopped 3 times in a row.');
    await expect(agent.whenReady(1_000)).rejects.toMatchObject({ code: 'AGENT_UNREACHABLE' });
  });

  it('repeats at once what an agent says that cannot start', async () => {
    const agent = supervise(['--fail']);

    agent.start();
    await until(() => reports.length === 1);

    expect(reports[0]).toMatchObject({ code: 'DATABASE_NEWER', message: 'The data is newer.' });
    expect(lines.filter((line) => line.startsWith('agent started'))).toHaveLength(1);
  });

  it('counts an agent that never gets ready as crashed', async () => {
    const agent = supervise(['--never-ready'], { startTimeoutMs: 400 });

    agent.start();
    await expect(agent.whenReady(100)).rejects.toMatchObject({ code: 'AGENT_UNREACHABLE' });
    await until(() => states.includes('restarting'));

    expect(states).not.toContain('ready');
  });

  it.skipIf(process.platform === 'win32')('kills an agent that does not listen to its end', async () => {
    const agent = supervise(['--deaf'], { stopGraceMs: 300 });
    agent.start();
    await agent.whenReady(10_000);
    const pid = agent.pid!;

    await agent.stop();

    expect(isRunning(pid)).toBe(false);
  });
});
