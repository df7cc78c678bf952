/** Agents that may open no further file for a while, as on a machine where another program has taken all handles. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { openPolicy } from '../../core/simulation/policies.ts';
import { startFederation, startShortRun, until } from '../fixtures/federation.ts';

const canLimit = process.platform === 'linux' && spawnSync('prlimit', ['--version']).status === 0;
const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

test.skipIf(!canLimit)(
  'nobody ends of it, and the run ends when there are some again',
  async () => {
    await using federation = await startFederation(2, { policy: openPolicy });
    const agents = [federation.coordinator, ...federation.sites.map(({ agent }) => agent)];
    const pids = agents.map(({ pid }) => pid!);
    const limit = (pid: number, most: number) =>
      execFileSync('prlimit', ['--pid', String(pid), `--nofile=${most}:4096`]);
    await startShortRun(federation, { rounds: 3, quorum: 2 });
    await until('a round to be worked on', async () =>
      (await federation.run()).done[0]?.sites.some(({ status }) => status === 'working'),
    );

    for (const pid of pids) limit(pid, readdirSync(`/proc/${pid}/fd`).length);
    await sleep(12_000);
    for (const pid of pids) if (isAlive(pid)) limit(pid, 4096);

    expect(pids.map(isAlive)).toEqual([true, true, true]);
    await until('the run to finish, or to wait for a person', async () => {
      const { status, id } = await federation.run();
      if (status === 'paused')
        await federation.coordinator.client.coordinator.resumeRun.mutate({ runId: id });
      return status === 'finished';
    });
    expect((await federation.run()).done).toHaveLength(3);
  },
  300_000,
);
