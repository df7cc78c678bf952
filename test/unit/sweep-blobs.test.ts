import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sweepBlobs } from '../../core/agent/sweep-blobs.ts';
import { frozenBaseKey } from '../../core/site/round-state.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { addImage, addRun, openTestStore, temporaryFolder } from '../fixtures/store.ts';

test('files that nothing refers to go, crops and adapters stay', async () => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const blobs = createBlobStore(join(folder.dir, 'blobs'));
  const [crop, adapter, orphan] = await Promise.all(
    ['crop', 'adapter', 'orphan'].map((text) => blobs.put(Buffer.from(text))),
  );
  addImage(opened.store, 'P1', 'one', { cropSha256: crop! });
  opened.store.adapters.insert({
    sha256: adapter!,
    runId: 'run',
    round: 0,
    kind: 'update',
    siteId: 'site',
    rank: 2,
    parameters: 1,
    sizeBytes: 7,
  });

  const swept = await sweepBlobs(opened.store, blobs);

  expect(swept).toBe(1);
  expect(blobs.has(orphan!)).toBe(false);
  expect(blobs.list().sort()).toEqual([crop, adapter].sort());
});

test("of the run in progress updates, the server's memory and parts of the frozenBaseDelta stay", async () => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const { store } = opened;
  const blobs = createBlobStore(join(folder.dir, 'blobs'));
  const put = (text: string) => blobs.put(Buffer.from(text));
  const startSha256 = await put('start');
  const [update, memorySha256, frozenBaseSha256] = [
    await put('update'),
    await put('memory'),
    await put('frozenBaseDelta'),
  ];
  const round = { runId: 'run', stage: 'baseline', rank: 2, trainableParameters: 1, startSha256 } as const;
  store.runs.insert({ id: 'run', config: {}, status: 'running', round: 1 });
  store.rounds.insert({ ...round, round: 0, status: 'closed', memorySha256, frozenBaseSha256 });
  store.rounds.insert({ ...round, round: 1 });
  store.roundSites.upsert({
    runId: 'run',
    round: 1,
    siteId: 'site',
    status: 'received',
    updateSha256: update,
  });

  const sweptInRun = await sweepBlobs(store, blobs);
  const keptInRun = blobs.list().sort();
  store.runs.update('run', { status: 'finished' });
  await sweepBlobs(store, blobs);

  expect(sweptInRun).toBe(0);
  expect(keptInRun).toEqual([startSha256, update, memorySha256, frozenBaseSha256].sort());
  // Of a finished run, what its adapters are nothing without.
  expect(blobs.list()).toEqual([frozenBaseSha256]);
});

test('a site keeps its own part of a finished run, and the frozenBaseDelta of the run it knows', async () => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const blobs = createBlobStore(join(folder.dir, 'blobs'));
  const [own, frozenBaseDelta, former] = await Promise.all(
    ['own part', 'frozenBaseDelta', 'former frozenBaseDelta'].map((text) => blobs.put(Buffer.from(text))),
  );
  addRun(opened.store, 'run');
  opened.store.runs.update('run', { status: 'finished' });
  opened.store.siteMemory.put({ runId: 'run', round: 0, sha256: own! });
  opened.store.settings.set(frozenBaseKey, [frozenBaseDelta!]);

  await sweepBlobs(opened.store, blobs);

  expect(blobs.list().sort()).toEqual([own, frozenBaseDelta].sort());
  expect(blobs.has(former!)).toBe(false);
});
