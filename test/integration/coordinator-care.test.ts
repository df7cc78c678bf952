/** What a coordinator must not do twice, and what it must not keep. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startDemoAgent } from '../../core/cli/demo/demo-agent.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { openReadOnlyStore } from '../../core/store/store.ts';
import { startFederation, startShortRun, until } from '../fixtures/federation.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const testTimeoutMs = 120_000;

test(
  'of two starts at once one makes a run; of a finished run the global states stay and the updates go',
  async () => {
    await using federation = await startFederation(2, { policy: openPolicy });

    const starts = await Promise.allSettled([
      startShortRun(federation, { rounds: 2, quorum: 2 }),
      startShortRun(federation, { rounds: 2, quorum: 2 }),
    ]);
    await until('the run to finish', async () => (await federation.run()).status === 'finished');

    expect(starts.map((start) => start.status).sort()).toEqual(['fulfilled', 'rejected']);
    const folder = federation.coordinator.dataFolder;
    const store = openReadOnlyStore(join(folder, 'anneal.db'));
    const updates = store.roundSites.listOfRun((await federation.run()).id).map((row) => row.updateSha256!);
    const globals = store.adapters.list({ kind: 'global' }).map((row) => row.sha256);
    store.close();
    const isKept = (sha256: string) => existsSync(join(folder, 'blobs', sha256.slice(0, 2), sha256));
    expect(updates).toHaveLength(4);
    expect(updates.filter(isKept)).toEqual([]);
    expect(globals).toHaveLength(3);
    expect(globals.every(isKept)).toBe(true);
  },
  testTimeoutMs,
);

test(
  'of two setups at once one makes a federation',
  async () => {
    using folder = temporaryFolder();
    const agent = await startDemoAgent({ dataFolder: folder.dir });
    const setUp = (federation: string) =>
      agent.client.setup.coordinator.mutate({ federation, port: 0, hosts: ['127.0.0.1'] });

    const setups = await Promise.allSettled([setUp('one'), setUp('two')]);
    const { rows } = await agent.client.audit.query();
    await agent.stop();

    expect(setups.map((setup) => setup.status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(rows.filter((row) => row.action === 'federation-created')).toHaveLength(1);
  },
  testTimeoutMs,
);
