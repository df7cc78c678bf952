/** The files of an erasure: those that something still uses are left, and go later. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { createEraser } from '../../core/rights/erase.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { addImage, openTestStore, temporaryFolder } from '../fixtures/store.ts';

test('a file that is in use leaves the erasure unfinished, which goes on later', async () => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const { store } = opened;
  const blobs = createBlobStore(path.join(folder.dir, 'blobs'));
  const cropSha256 = await blobs.put(Buffer.from('crop'));
  addImage(store, 'P1', 'one', { cropSha256 });
  const logsFolder = path.join(folder.dir, 'logs');
  await mkdir(logsFolder);
  const eraser = createEraser({
    ...{ store, blobs, logger: silentLogger, site: () => null },
    ...{ logsFolder, workFolder: path.join(folder.dir, 'work') },
  });

  {
    // An import has made the same crop, and is about to write its row.
    using _held = blobs.hold();
    await blobs.put(Buffer.from('crop'));
    expect((await eraser.erase('P1', 'anna')).doneAt).toBeNull();
    await eraser.resume();
    expect(blobs.has(cropSha256)).toBe(true);
    expect(eraser.find('P1')?.doneAt).toBeNull();
  }
  await eraser.resume();

  expect(blobs.has(cropSha256)).toBe(false);
  expect(eraser.find('P1')?.doneAt).not.toBeNull();
  expect(store.erasures.unfinished()).toEqual([]);
});
