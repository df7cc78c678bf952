import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sweepBlobs } from '../../core/agent/sweep-blobs.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { addImage, openTestStore, temporaryFolder } from '../fixtures/store.ts';

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
