/** A disk that is really full, under a real agent: it lives, a withdrawal counts, and it starts again. */
import { cpSync, existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { type AgentProcess, startAgentProcess } from '../../core/agent/agent-process.ts';
import { createAgentClient } from '../../core/api/client.ts';
import { recordConsent } from '../../core/consent/consent.ts';
import { runProgram } from '../../core/process/child-process.ts';
import { openDataFolder } from '../../core/store/data-folder.ts';
import { openStore } from '../../core/store/store.ts';
import { hasSmallDisks, openSmallDisk, type SmallDisk } from '../fixtures/small-disk.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const program = fileURLToPath(new URL('../../core/agent/main.ts', import.meta.url));
const logChild = fileURLToPath(new URL('../fixtures/log-child.ts', import.meta.url));
const timeoutMs = 60_000;
const onSmallDisk = test.skipIf(!hasSmallDisks);

async function startOn(disk: SmallDisk, socket: string): Promise<AgentProcess> {
  const ready = Promise.withResolvers<void>();
  const [nodePath, args] = disk.command(process.execPath, [
    ...[program, '--data', path.join(disk.dir, 'data'), '--socket', socket],
  ]);
  const lines: string[] = [];
  const agent = startAgentProcess({
    nodePath,
    args,
    onReady: () => ready.resolve(),
    log: (line) => lines.push(line),
  });
  void agent.exited.then(({ report }) =>
    ready.reject(new Error(`the agent ended: ${JSON.stringify(report)} ${lines.join('\n')}`)),
  );
  await ready.promise;
  return agent;
}

function addConsents(disk: SmallDisk, ...people: string[]): void {
  // SQLite follows the link in /proc: the folder is filled elsewhere.
  using folder = temporaryFolder();
  const store = openStore(openDataFolder(path.join(folder.dir, 'data')).dbFile);
  for (const pseudonym of people)
    recordConsent(store, {
      ...{ pseudonym, purpose: 'federated-training', documentVersion: '1', validFrom: '2026-01-01' },
      recordedBy: 'test',
    });
  store.close();
  cpSync(path.join(folder.dir, 'data'), path.join(disk.seen, 'data'), { recursive: true });
}

onSmallDisk(
  'a withdrawal is recorded on a full disk, the agent says what is wrong, and it starts again on the full disk',
  async () => {
    using disk = await openSmallDisk(40);
    using folder = temporaryFolder();
    const socket = path.join(folder.dir, 'agent.sock');
    const client = createAgentClient(socket);
    const reserve = path.join(disk.seen, 'data', 'reserve');
    addConsents(disk, 'P1', 'P2', 'P3');
    let agent = await startOn(disk, socket);
    expect(existsSync(reserve)).toBe(true);
    const statusOf = async (pseudonym: string) =>
      (await client.consent.list.query({ search: pseudonym })).map(({ consents }) =>
        consents.map(({ status }) => status).join(),
      );

    disk.fill();
    await client.consent.withdraw.mutate({ pseudonym: 'P1' });

    expect(existsSync(reserve)).toBe(false);
    expect(await statusOf('P1')).toEqual(['withdrawn']);
    expect((await client.status.query()).problem?.code).toBe('DISK_FULL');

    disk.fill();
    await agent.kill();
    agent = await startOn(disk, socket).catch(() => {
      // Nothing at all is left: even the start needs a page.
      disk.free();
      return startOn(disk, socket);
    });
    expect(await statusOf('P1')).toEqual(['withdrawn']);

    disk.free();
    await client.consent.withdraw.mutate({ pseudonym: 'P2' });
    expect(await statusOf('P2')).toEqual(['withdrawn']);
    expect(await statusOf('P3')).toEqual(['active']);
    expect((await client.audit.query()).intact).toBe(true);
    await agent.kill();
  },
  timeoutMs,
);

onSmallDisk(
  'an agent starts on a full disk as long as it has its reserve',
  async () => {
    using disk = await openSmallDisk(40);
    using folder = temporaryFolder();
    const socket = path.join(folder.dir, 'agent.sock');
    const client = createAgentClient(socket);
    addConsents(disk, 'P1');
    const first = await startOn(disk, socket);
    await first.kill();
    disk.fill();

    const again = await startOn(disk, socket);
    await client.consent.withdraw.mutate({ pseudonym: 'P1' });

    expect((await client.consent.list.query({ search: 'P1' }))[0]?.consents[0]?.status).toBe('withdrawn');
    await again.kill();
  },
  timeoutMs,
);

onSmallDisk(
  'a log on a full disk ends nothing, goes on when there is room, and says how much is missing',
  async () => {
    using disk = await openSmallDisk(4);
    disk.fill();
    const [command, args] = disk.command(process.execPath, [
      logChild,
      disk.dir,
      path.join(disk.dir, 'filler'),
    ]);

    const result = await runProgram(command, args, { timeout: 30_000 });

    expect(result.stderr).toBe('');
    expect(result.exitCode).toBe(0);
    const lines = readFileSync(path.join(disk.seen, 'logs', 'agent.log'), 'utf8')
      .trim()
      .split('\n');
    const written = lines.map((line) => JSON.parse(line) as { msg: string; lines?: number });
    expect(written.map(({ msg }) => msg)).toContain('there is room again');
    const missing = written.find(({ msg }) => msg.startsWith('lines of this log were lost'));
    const kept = written.filter(({ msg }) => msg === 'on the full disk').length;
    expect(kept + (missing?.lines ?? 0)).toBe(3000);
    expect(missing?.lines).toBeGreaterThan(0);
  },
);
