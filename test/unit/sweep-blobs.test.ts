import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sha256 } from '../../core/shared/hash.ts';
import { frozenBaseKey } from '../../core/site/round-state.ts';
import type { BlobStore } from '../../core/store/blob-store.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { collectBlobs, collectRun, sweepBlobs } from '../../core/store/retention.ts';
import type { Store } from '../../core/store/store.ts';
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

test.each([
  ['a sweep', (store: Store, blobs: BlobStore) => sweepBlobs(store, blobs)],
  ['the end of the run', (store: Store, blobs: BlobStore) => collectRun(store, blobs, 'run', 0)],
])(
  "updates, the server's memory and parts of the frozen base delta stay during a run; %s lets go",
  async (_, end) => {
    using opened = openTestStore();
    using folder = temporaryFolder();
    const { store } = opened;
    const blobs = createBlobStore(join(folder.dir, 'blobs'));
    const put = (text: string) => blobs.put(Buffer.from(text));
    const startSha256 = await put('start');
    const [update, memorySha256, frozenBaseSha256] = [
      await put('update'),
      await put('memory'),
      await put('frozen base delta'),
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
    await end(store, blobs);

    expect(sweptInRun).toBe(0);
    expect(keptInRun).toEqual([startSha256, update, memorySha256, frozenBaseSha256].sort());
    // Of a finished run, what its adapters are nothing without.
    expect(blobs.list()).toEqual([frozenBaseSha256]);
  },
);

test('a site keeps its local parameters of a finished run, and the frozen base delta of the run it knows', async () => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const blobs = createBlobStore(join(folder.dir, 'blobs'));
  const [own, frozenBaseDelta, former] = await Promise.all(
    ['local parameters', 'frozen base delta', 'former frozen base delta'].map((text) =>
      blobs.put(Buffer.from(text)),
    ),
  );
  addRun(opened.store, 'run');
  opened.store.runs.update('run', { status: 'finished' });
  opened.store.siteMemory.put({ runId: 'run', round: 0, sha256: own! });
  opened.store.settings.set(frozenBaseKey, [frozenBaseDelta!]);

  await sweepBlobs(opened.store, blobs);

  expect(blobs.list().sort()).toEqual([own, frozenBaseDelta].sort());
  expect(blobs.has(former!)).toBe(false);
});

test('what was put and is not named yet, and what is on its way, is left alone', async () => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const blobs = createBlobStore(join(folder.dir, 'blobs'));
  const bytes = Buffer.from('on its way');
  const coming = sha256(bytes);
  const partial = await blobs.openPartial(coming, bytes.length, 4);
  await partial.write(0, bytes.subarray(0, 4));
  let fresh: string;
  {
    using _held = blobs.hold();
    fresh = await blobs.put(Buffer.from('not named yet'));

    await collectBlobs(opened.store, blobs, [fresh, coming]);

    expect(blobs.has(fresh)).toBe(true);
    expect(partial.missing()).toEqual([1, 2]);
  }
  await partial.suspend();

  const deleted = await collectBlobs(opened.store, blobs, [fresh, coming]);

  expect(deleted).toBe(2);
  expect(blobs.list()).toEqual([]);
  expect((await blobs.openPartial(coming, bytes.length, 4)).missing()).toEqual([0, 1, 2]);
});

test('what arrived of a transfer stays while a row asks for it, and goes when none does', async () => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const { store } = opened;
  const blobs = createBlobStore(join(folder.dir, 'blobs'));
  const [wanted, superseded] = [Buffer.from('run -1'), Buffer.from('an older manifest')];
  for (const bytes of [wanted, superseded]) {
    const partial = await blobs.openPartial(sha256(bytes), bytes.length, 4);
    await partial.write(0, bytes.subarray(0, 4));
    await partial.suspend();
  }
  addRun(store, 'run');

  const deleted = await sweepBlobs(store, blobs);

  expect(deleted).toBe(1);
  expect((await blobs.openPartial(sha256(wanted), wanted.length, 4)).missing()).not.toContain(0);
  expect((await blobs.openPartial(sha256(superseded), superseded.length, 4)).missing()).toContain(0);
});

test('a blob that is deleted can be put again before its old file is gone', async () => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const blobs = createBlobStore(join(folder.dir, 'blobs'));
  const bytes = Buffer.from('twice');
  const hash = await blobs.put(bytes);

  const collecting = collectBlobs(opened.store, blobs, [hash]);
  const again = blobs.put(bytes);
  await Promise.all([collecting, again]);

  expect(Buffer.from(await blobs.read(hash))).toEqual(bytes);
});

test('of a run states and updates of expired rounds go, and nothing else', async () => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const { store } = opened;
  const blobs = createBlobStore(join(folder.dir, 'blobs'));
  const put = (text: string) => blobs.put(Buffer.from(text));
  const adapter = { rank: 2, parameters: 1, sizeBytes: 1 };
  store.runs.insert({ id: 'run', config: {}, status: 'running', round: 2 });
  for (const round of [0, 1, 2]) {
    const plan = { runId: 'run', round, stage: 'baseline', rank: 2, trainableParameters: 1 } as const;
    store.rounds.insert({
      ...plan,
      startSha256: await put(`state ${round - 1}`),
      status: round < 2 ? 'closed' : 'open',
      frozenBaseSha256: await put(`base ${round}`),
    });
    const update = await put(`update ${round}`);
    store.roundSites.upsert({ runId: 'run', round, siteId: 's', status: 'received', updateSha256: update });
    store.siteMemory.put({ runId: 'run', round, sha256: await put(`local ${round}`) });
    const state = { runId: 'run', round: round - 1, kind: 'global' } as const;
    store.adapters.insert({ ...adapter, ...state, sha256: await put(`state ${round - 1}`) });
  }
  store.adapters.insert({
    ...{ ...adapter, runId: 'other', round: 0, kind: 'global' },
    sha256: await put('state -1'),
  });
  const kept = (names: readonly string[]) => names.filter((name) => blobs.has(sha256(name)));
  const names = ['state', 'update', 'base', 'local'].flatMap((name) =>
    [-1, 0, 1, 2].map((round) => `${name} ${round}`),
  );

  await collectRun(store, blobs, 'run', -1, { runId: 'run', beforeRound: 1 });

  expect(kept(names)).toEqual([
    // Another run begins with the first one, a round that is kept with the second.
    ...['state -1', 'state 0', 'state 1', 'update 2'],
    ...['base 0', 'base 1', 'base 2', 'local 0', 'local 1', 'local 2'],
  ]);
});
