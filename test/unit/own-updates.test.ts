/** What a site keeps of rounds that are over. */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { sha256 } from '../../core/shared/hash.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { collectRun, sweepBlobs } from '../../core/store/retention.ts';
import type { Store } from '../../core/store/store.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

const rounds = 218;
const siteId = 'site-a';

function openWorld() {
  const folder = temporaryFolder();
  const opened = openTestStore();
  return {
    store: opened.store,
    blobs: createBlobStore(path.join(folder.dir, 'blobs'), { durability: 'process' }),
    [Symbol.dispose]() {
      for (const one of [opened, folder]) one[Symbol.dispose]();
    },
  };
}

/** As a site records it: the state comes, the update goes. */
async function takeRound({ store, blobs }: ReturnType<typeof openWorld>, runId: string, round: number) {
  const startSha256 = await blobs.put(Buffer.from(`state ${runId} ${round}`));
  store.runs.update(runId, { status: 'running', round });
  store.rounds.insert({
    ...{ runId, round, stage: 'heating', rank: 2, trainableParameters: 0, startSha256, frozenBaseParts: [] },
  });
  const update = await blobs.put(Buffer.from(`update ${runId} ${round}`));
  store.adapters.insert({
    ...{ sha256: update, runId, round, kind: 'update', siteId, rank: 2, parameters: 1, sizeBytes: 1 },
    startSha256,
  });
  const sent = { updateSha256: update, cohortSha256: sha256('cohort') };
  store.roundSites.upsert({ runId, round, siteId, status: 'received', ...sent });
  return { startSha256, update };
}

const begin = (store: Store, runId: string) => store.runs.insert({ id: runId, config: {} });

describe('of its own updates and the states behind them a site keeps', () => {
  test(`the last two rounds, however many there were (${rounds})`, async () => {
    using world = openWorld();
    const { store, blobs } = world;
    begin(store, 'run');
    const made: { startSha256: string; update: string }[] = [];
    let most = 0;
    for (let round = 0; round < rounds; round++) {
      made.push(await takeRound(world, 'run', round));
      // As the site does with each manifest.
      await collectRun(store, blobs, 'run', Math.max(0, round - 8));
      most = Math.max(most, blobs.list().length);
    }

    expect(most).toBeLessThanOrEqual(4);
    const kept = made.slice(-2).flatMap(({ startSha256, update }) => [startSha256, update]);
    expect(blobs.list().sort()).toEqual(kept.sort());
    // Rows stay: the trace and the list of adapters tell of them.
    expect(store.adapters.list({ runId: 'run' })).toHaveLength(rounds);
  });

  test('what an older version has kept goes at the next start', async () => {
    using world = openWorld();
    const { store, blobs } = world;
    begin(store, 'run');
    for (let round = 0; round < 20; round++) await takeRound(world, 'run', round);
    expect(blobs.list()).toHaveLength(40);

    await sweepBlobs(store, blobs);

    expect(blobs.list()).toHaveLength(4);
  });

  test('the newest of a run that is over, which an export of its own model needs, also when others follow', async () => {
    using world = openWorld();
    const { store, blobs } = world;
    begin(store, 'first');
    const last: { startSha256: string; update: string }[] = [];
    for (let round = 0; round < 5; round++) last.push(await takeRound(world, 'first', round));
    store.runs.update('first', { status: 'finished', finishedAt: store.now() });
    begin(store, 'second');
    for (let round = 0; round < 5; round++) await takeRound(world, 'second', round);

    await sweepBlobs(store, blobs);

    expect(blobs.has(last[4]!.update)).toBe(true);
    expect(blobs.has(last[4]!.startSha256)).toBe(true);
    expect(blobs.has(last[2]!.update)).toBe(false);
  });

  test('what it delivered last, also when it was not drawn for the rounds since', async () => {
    using world = openWorld();
    const { store, blobs } = world;
    begin(store, 'run');
    const { update } = await takeRound(world, 'run', 0);
    for (let round = 1; round < 6; round++) {
      store.rounds.insert({
        ...{ runId: 'run', round, stage: 'heating', rank: 2, trainableParameters: 0, frozenBaseParts: [] },
        startSha256: await blobs.put(Buffer.from(`state ${round}`)),
      });
      store.runs.update('run', { round });
      await collectRun(store, blobs, 'run', 0);
    }

    expect(blobs.has(update)).toBe(true);
    // The state that it was trained from, and those of the last two rounds.
    expect(blobs.list()).toHaveLength(4);
  });
});
