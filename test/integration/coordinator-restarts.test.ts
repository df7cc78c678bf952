/** A coordinator that is killed again and again while its sites finish: what they have announced counts, all of it. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openPolicy } from '../../core/simulation/policies.ts';
import { openReadOnlyStore } from '../../core/store/store.ts';
import { startFederation, startShortRun, until } from '../fixtures/federation.ts';

const restarts = 20;
const testTimeoutMs = 1_500_000;

/** Of the site itself, in a round. */
function statusAt(dataFolder: string, runId: string, round: number): string | undefined {
  const store = openReadOnlyStore(join(dataFolder, 'anneal.db'));
  try {
    return store.roundSites.list(runId, round)[0]?.status;
  } finally {
    store.close();
  }
}

test(
  `of ${restarts} restarts with all updates announced and a quorum of two thirds, none loses an update`,
  async () => {
    await using federation = await startFederation(3, { policy: openPolicy });
    const { id } = await startShortRun(federation, { rounds: restarts, quorum: 2, epochs: 1 });
    const statusesIn = (round: number) =>
      federation.sites.map(({ agent }) => statusAt(agent.dataFolder, id, round));

    for (let round = 0; round < restarts; round++) {
      await until(`round ${round} to be worked on`, async () => {
        const run = await federation.run();
        return run.round === round && run.done[round]?.sites.some(({ status }) => status === 'working');
      });
      await federation.coordinator.kill();
      await until(`all updates of round ${round}`, async () =>
        statusesIn(round).every((status) => status !== undefined && status !== 'working'),
      );
      await federation.restartCoordinator();
      await until(`round ${round} to close`, async () => {
        const { done } = await federation.run();
        return done[round]?.status === 'closed';
      });
    }
    const run = await until('the run to finish', async () => {
      const current = await federation.run();
      return current.status === 'finished' && current;
    });

    expect(run.done.map(({ sites }) => sites.map(({ status }) => status))).toEqual(
      Array.from({ length: restarts }, () => ['received', 'received', 'received']),
    );
    const audit = await federation.coordinator.client.audit.query();
    expect(audit.intact).toBe(true);
  },
  testTimeoutMs,
);
