import { join } from 'node:path';
import { expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { startTrainer } from '../../core/engine/trainer.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { createSite } from '../../core/site/site.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { knownToSite, manifestOf } from '../fixtures/manifests.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

test('a site that cannot write its answer shows a problem and lives on', async () => {
  using folder = temporaryFolder();
  using opened = openTestStore();
  const { store } = opened;
  // The database refuses new messages, as on a full disk.
  const db = openSqlite(opened.file);
  db.exec("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END");
  db.close();
  const trainer = startTrainer();
  const site = createSite({
    siteId: 'site',
    siteName: 'clinic',
    store,
    blobs: createBlobStore(folder.dir),
    trainer,
    ports: {
      enqueue: () =>
        void store.outbox.add({
          topic: 'topic',
          payload: new Uint8Array(),
          messageId: '1',
          type: 'declined',
        }),
      retractAnnouncement: () => {},
      flush: () => {},
      sendProgress: () => {},
      fetch: async () => {},
    },
    logger: silentLogger,
    workFolder: join(folder.dir, 'work'),
    compute: () => ({ engine: 'onnxruntime', device: 'cpu', threads: 1 }),
    ...knownToSite,
    onChange: () => {},
    onProgress: () => {},
  });
  const config = defaultRunConfig({
    baseId: 'face-resnet-128',
    baseSha256: '0'.repeat(64),
    classes: ['a', 'b'],
  });

  // The site wants to tell the coordinator that it is paused.
  site.pause();
  site.receiveManifest(
    manifestOf(config, null, 0, { sha256: '1'.repeat(64), sizeBytes: 1, chunkBytes: 1024 }),
  );

  expect(site.problem).not.toBeNull();
  await site.close();
  await trainer.close();
});
