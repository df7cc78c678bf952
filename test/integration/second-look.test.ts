/** Faults beside those of the first list, in real processes: what is lost, exchanged or copied while a federation is at work. */
import { copyFileSync, renameSync } from 'node:fs';
import { cp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openPolicy } from '../../core/simulation/policies.ts';
import { openReadOnlyStore } from '../../core/store/store.ts';
import { startFederation, startShortRun, type TestFederation, until } from '../fixtures/federation.ts';

const testTimeoutMs = 300_000;

const copy = (from: string, to: string) =>
  cp(from, to, { recursive: true, filter: (name) => !name.endsWith('.sock') });

async function putBack(folder: string): Promise<void> {
  await rm(folder, { recursive: true });
  await copy(`${folder}-then`, folder);
}

function readStore<T>(folder: string, read: (store: ReturnType<typeof openReadOnlyStore>) => T): T {
  const store = openReadOnlyStore(join(folder, 'anneal.db'));
  try {
    return read(store);
  } finally {
    store.close();
  }
}

const closedRounds = async (federation: TestFederation) =>
  (await federation.run()).done.filter(({ status }) => status === 'closed').length;
const finished = (federation: TestFederation) =>
  until('the run to finish', async () => {
    const run = await federation.run();
    return run.status === 'finished' && run;
  });
const statuses = ({ done }: Awaited<ReturnType<TestFederation['run']>>) =>
  done.map(({ sites }) => sites.map(({ status }) => status));

test(
  'an update whose file is gone at its site is made again, and the round does not wait for its deadline',
  async () => {
    await using federation = await startFederation(2, { policy: openPolicy });
    const { id } = await startShortRun(federation, { rounds: 2, quorum: 2 });
    const [{ agent }] = federation.sites as [TestFederation['sites'][number]];
    const rowAt = () => readStore(agent.dataFolder, (store) => store.roundSites.list(id, 0)[0]);
    await until('the first round to be worked on', async () => rowAt()?.status === 'working');
    await federation.coordinator.kill();
    const row = await until('its update', async () => rowAt()?.status === 'announced' && rowAt());
    const file = join(agent.dataFolder, 'blobs', row.updateSha256!.slice(0, 2), row.updateSha256!);
    await rm(file);

    await federation.restartCoordinator();

    const run = await finished(federation);
    expect(statuses(run)).toEqual([
      ['received', 'received'],
      ['received', 'received'],
    ]);
    const remade = readStore(agent.dataFolder, (store) => store.audit.allOf('round-restarted'));
    expect(remade.map(({ details }) => (details as { round: number }).round)).toEqual([0]);
  },
  testTimeoutMs,
);

test(
  'a coordinator and a site that were both put back to the same moment go on, and the other site shows it to the coordinator',
  async () => {
    await using federation = await startFederation(2, { policy: openPolicy });
    const [{ name, agent }] = federation.sites as [TestFederation['sites'][number]];
    const folders = [federation.coordinator.dataFolder, agent.dataFolder];
    await startShortRun(federation, { rounds: 5, quorum: 2 });
    await until('a round to close', async () => (await closedRounds(federation)) >= 1);
    await federation.coordinator.kill();
    await agent.kill();
    for (const folder of folders) await copy(folder, `${folder}-then`);
    await federation.restartCoordinator();
    await federation.startSite(name);
    await until('three rounds to close', async () => (await closedRounds(federation)) >= 3);
    await federation.coordinator.kill();
    await federation.sites.find((site) => site.name === name)!.agent.kill();
    for (const folder of folders) await putBack(folder);

    await federation.restartCoordinator();
    const site = await federation.startSite(name);
    // Nobody remembers more of this site than it does itself: it is not known to have been put back (docs/reliability.md).
    await until('it to be online', async () => (await site.client.status.query()).clock !== null);

    const run = await finished(federation);
    expect(run.done).toHaveLength(5);
    expect(
      statuses(run)
        .flat()
        .filter((status) => status !== 'received').length,
    ).toBeLessThanOrEqual(1);
    const { concerns } = await federation.coordinator.client.status.query();
    expect(concerns.map(({ code }) => code)).toContain('COORDINATOR_RESTORED');
    expect((await federation.coordinator.client.audit.query()).intact).toBe(true);
  },
  testTimeoutMs,
);

test(
  'a run that a restored coordinator does not know is closed at the sites by the next one, and the next one ends',
  async () => {
    await using federation = await startFederation(2, { policy: openPolicy });
    const folder = federation.coordinator.dataFolder;
    await federation.coordinator.kill();
    await copy(folder, `${folder}-then`);
    await federation.restartCoordinator();
    const lost = await startShortRun(federation, { rounds: 3, quorum: 2 });
    await until('a round to close', async () => (await closedRounds(federation)) >= 1);
    await federation.coordinator.kill();
    await putBack(folder);
    await federation.restartCoordinator();

    const next = await startShortRun(federation, { rounds: 1, quorum: 2 });
    const run = await finished(federation);

    expect(run.id).toBe(next.id);
    expect(statuses(run)).toEqual([['received', 'received']]);
    for (const { agent } of federation.sites) {
      const { states, waiting } = readStore(agent.dataFolder, (store) => ({
        states: store.runs.list().map(({ id, finishedAt }) => [id, finishedAt !== null]),
        waiting: store.outbox.pending().filter(({ type }) => type === 'announce'),
      }));
      expect(new Map(states as [string, boolean][]).get(lost.id)).toBe(true);
      expect(waiting).toEqual([]);
    }
  },
  testTimeoutMs,
);

test.skipIf(process.platform === 'win32')(
  'a database that is replaced under a running site takes no withdrawal, and the next start says what is missing',
  async () => {
    await using federation = await startFederation(1, { policy: openPolicy });
    const [{ name, agent }] = federation.sites as [TestFederation['sites'][number]];
    const [first, second] = await agent.client.consent.list.query({});
    const file = join(agent.dataFolder, 'anneal.db');
    copyFileSync(file, `${file}.older`);
    await agent.client.consent.withdraw.mutate({ pseudonym: first!.pseudonym });

    renameSync(`${file}.older`, file);

    await expect(agent.client.consent.withdraw.mutate({ pseudonym: second!.pseudonym })).rejects.toThrow(
      /replaced while Anneal runs/,
    );
    await agent.kill();
    for (const ending of ['-wal', '-shm']) await rm(`${file}${ending}`, { force: true });
    await expect(federation.startSite(name)).rejects.toThrow(/withdrawals may be missing/);
  },
  testTimeoutMs,
);

test(
  'three computers with the keys of one site: the first goes on, and the run ends',
  async () => {
    await using federation = await startFederation(2, { policy: openPolicy });
    const [{ name, agent }] = federation.sites as [TestFederation['sites'][number]];
    await agent.kill();
    const parent = join(agent.dataFolder, '..');
    const clones = ['clone-1', 'clone-2'];
    for (const clone of clones) await copy(agent.dataFolder, join(parent, clone));
    const first = await federation.startSite(name);
    await until('it to be online', async () => (await first.client.status.query()).clock !== null);
    const others = await Promise.all(clones.map((clone) => federation.startSite(clone)));

    await startShortRun(federation, { rounds: 3, quorum: 2 });
    const run = await finished(federation);

    const concerns = await until('all to name it', async () => {
      const all = await Promise.all([first, ...others].map((one) => one.client.status.query()));
      const codes = all.map((status) => status.concerns.map(({ code }) => code));
      return codes.every((each) => each.includes('SITE_CLONED')) && codes;
    });
    expect(concerns).toHaveLength(3);
    expect(statuses(run).map((each) => each.filter((status) => status === 'received').length)).toEqual([
      2, 2, 2,
    ]);
    const { sites } = await federation.coordinator.client.coordinator.overview.query();
    expect(sites.find((site) => site.name === name)?.concerns.join(' ')).toMatch(/Two computers/);
    expect(await readdir(parent)).toContain('clone-1');
  },
  testTimeoutMs,
);
