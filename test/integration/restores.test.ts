/** Data folders that are put back to an earlier state while a federation of processes is at work. */
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openPolicy } from '../../core/simulation/policies.ts';
import { openReadOnlyStore } from '../../core/store/store.ts';
import { startFederation, startShortRun, type TestFederation, until } from '../fixtures/federation.ts';

const testTimeoutMs = 240_000;

/** As a backup of the folder would: all but what belongs to the process. */
const copy = (from: string, to: string) =>
  cp(from, to, { recursive: true, filter: (name) => !name.endsWith('.sock') });

async function putBack(folder: string): Promise<void> {
  await rm(folder, { recursive: true });
  await copy(`${folder}-then`, folder);
}

const closedRounds = async (federation: TestFederation) =>
  (await federation.run()).done.filter(({ status }) => status === 'closed').length;

function resultsOf(folder: string): (string | null)[] {
  const store = openReadOnlyStore(join(folder, 'anneal.db'));
  const [run] = store.runs.list();
  const results = store.rounds.listOfRun(run!.id).map(({ resultSha256 }) => resultSha256);
  store.close();
  return results;
}

test(
  'a coordinator that was restored to an earlier round ends its run, with the same results as before and nothing twice',
  async () => {
    await using federation = await startFederation(2, { policy: openPolicy });
    const folder = federation.coordinator.dataFolder;
    await startShortRun(federation, { rounds: 5, quorum: 2 });
    await until('a round to close', async () => (await closedRounds(federation)) >= 1);
    await federation.coordinator.kill();
    await copy(folder, `${folder}-then`);
    await federation.restartCoordinator();
    await until('three rounds to close', async () => (await closedRounds(federation)) >= 3);
    await federation.coordinator.kill();
    const before = resultsOf(folder).filter((sha256) => sha256 !== null);
    await putBack(folder);
    await federation.restartCoordinator();

    const status = await until('the sites to say that it went back', async () => {
      const all = await Promise.all(federation.sites.map(({ agent }) => agent.client.status.query()));
      return all.every(({ concerns }) => concerns.some(({ code }) => code === 'COORDINATOR_RESTORED')) && all;
    });
    await until('the run to finish', async () => (await federation.run()).status === 'finished');
    const run = await federation.run();
    const own = await federation.coordinator.client.status.query();

    expect(status).toHaveLength(2);
    expect(own.concerns.map(({ code }) => code)).toContain('COORDINATOR_RESTORED');
    expect(run.done).toHaveLength(5);
    for (const round of run.done) {
      expect(round.sites.map((site) => site.status)).toEqual(['received', 'received']);
      expect(round.metrics).not.toBeNull();
    }
    expect(resultsOf(folder).slice(0, before.length)).toEqual(before);
  },
  testTimeoutMs,
);

test(
  'a site that was restored to before a withdrawal trains on nothing until somebody has confirmed it',
  async () => {
    await using federation = await startFederation(2, { policy: openPolicy });
    const [{ name, agent }] = federation.sites as [TestFederation['sites'][number]];
    const folder = agent.dataFolder;
    await agent.kill();
    await copy(folder, `${folder}-then`);
    const then = await federation.startSite(name);
    const [subject] = await then.client.consent.list.query({});
    await then.client.consent.withdraw.mutate({ pseudonym: subject!.pseudonym });
    await then.kill();
    // At each start the coordinator hears how long the trail is.
    const heard = await federation.startSite(name);
    await until('the site to be online', async () => (await heard.client.status.query()).clock !== null);
    await heard.kill();
    await putBack(folder);

    const site = await federation.startSite(name);
    const status = await until('the site to notice', async () => {
      const now = await site.client.status.query();
      return now.problem?.code === 'SITE_RESTORED' && now;
    });
    await startShortRun(federation, { rounds: 1, quorum: 1 });
    await until('the run to end', async () => (await federation.run()).status === 'finished');
    const first = await federation.run();
    const stopped = await site.client.site.overview.query();
    await site.client.consent.withdraw.mutate({ pseudonym: subject!.pseudonym });
    const { confirmed } = await site.client.site.confirmRestore.mutate();
    await startShortRun(federation, { rounds: 1, quorum: 2 });
    await until('the second run to end', async () => (await federation.run()).status === 'finished');
    const second = await federation.run();

    expect(status.problem!.message).toMatch(/At least \d+ entr/);
    expect(stopped.activity).toBe('restored');
    expect(first.done[0]!.sites.find(({ siteName }) => siteName === name)).toMatchObject({
      status: 'absent',
    });
    expect(confirmed).toMatchObject({ how: 'copy' });
    expect(confirmed!.missing).toBeGreaterThan(0);
    expect(second.done[0]!.sites.map((row) => row.status)).toEqual(['received', 'received']);
    const trace = await site.client.rights.trace.query({ pseudonym: subject!.pseudonym });
    expect(JSON.stringify(trace)).not.toContain(second.id);
  },
  testTimeoutMs,
);
