/** What a site that is paused says of a round: that nobody need wait for it, but for an update that is on its way. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { startTrainer } from '../../core/engine/trainer.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { createSite } from '../../core/site/site.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { knownToSite, manifestOf } from '../fixtures/manifests.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

test.each([
  ['announced', []],
  ['working', ['declined']],
  ['absent', ['declined']],
] as const)('an update that is %s: %j', async (status, said) => {
  using folder = temporaryFolder();
  using opened = openTestStore();
  const { store } = opened;
  const trainer = startTrainer();
  const sent: string[] = [];
  const site = createSite({
    ...{ siteId: 'site', siteName: 'clinic', store, trainer, logger: silentLogger },
    blobs: createBlobStore(folder.dir),
    ports: {
      enqueue: ({ type }) => void sent.push(type),
      retractAnnouncement: () => {},
      flush: () => {},
      sendProgress: () => {},
      fetch: async () => {},
    },
    workFolder: join(folder.dir, 'work'),
    compute: () => ({ engine: 'onnxruntime', device: 'cpu', threads: 1 }),
    ...knownToSite,
    ...{ onChange: () => {}, onProgress: () => {} },
  });
  const names = { baseId: 'face-resnet-128', baseSha256: '0'.repeat(64), classes: ['a', 'b'] };
  const state = { sha256: '1'.repeat(64), sizeBytes: 1, chunkBytes: 1024 };
  site.receiveManifest(manifestOf(defaultRunConfig(names), null, 0, state));
  const { runId, round } = site.manifest!;
  store.roundSites.upsert({ runId, round, siteId: 'site', status });
  sent.length = 0;

  site.pause();

  expect(sent).toEqual(said);
  await site.close();
  await trainer.close();
});
