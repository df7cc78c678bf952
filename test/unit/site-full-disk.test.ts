import { expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { openIdleSite } from '../fixtures/idle-site.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { openTestStore } from '../fixtures/store.ts';

test('a site that cannot write its answer shows a problem and lives on', async () => {
  using opened = openTestStore();
  const { store } = opened;
  // The database refuses new messages, as on a full disk.
  const db = openSqlite(opened.file);
  db.exec("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END");
  db.close();
  await using idle = openIdleSite(store, {
    enqueue: () =>
      void store.outbox.add({
        topic: 'topic',
        payload: new Uint8Array(),
        messageId: '1',
        type: 'declined',
      }),
  });
  const { site } = idle;
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
});
