import { readdirSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { sha256 } from '../../core/shared/hash.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const bytesOf = (length: number) =>
  Uint8Array.from({ length }, (_, index) => (index * 31 + (index >> 8)) % 256);
const chunkOf = (bytes: Uint8Array, index: number, chunkBytes: number) =>
  bytes.subarray(index * chunkBytes, (index + 1) * chunkBytes);
const withCode = (code: string) => expect.objectContaining({ code });
const absent = '0'.repeat(64);

describe('whole blobs', () => {
  test('are found under their hash, once, readable by this account only', async () => {
    using folder = temporaryFolder();
    const blobs = createBlobStore(folder.dir);
    const bytes = bytesOf(1000);

    const hash = await blobs.put(bytes);
    expect(await blobs.put(bytes)).toBe(hash);

    expect(hash).toBe(sha256(bytes));
    expect(blobs.path(hash)).toBe(path.join(folder.dir, hash.slice(0, 2), hash));
    expect(blobs.sizeBytes(hash)).toBe(1000);
    expect(Buffer.from(await blobs.read(hash)).equals(bytes)).toBe(true);
    if (process.platform !== 'win32') expect(statSync(blobs.path(hash)).mode & 0o777).toBe(0o600);
    expect(readdirSync(path.join(folder.dir, 'partial'))).toEqual([]);
  });

  test('may be put without waiting for their names, and one that failed does not hinder the others', async () => {
    using folder = temporaryFolder();
    const blobs = createBlobStore(folder.dir);
    const failing = bytesOf(99);
    // A file where the folder would be.
    writeFileSync(path.join(folder.dir, sha256(failing).slice(0, 2)), '');

    await expect(blobs.put(failing, { unsettled: true })).rejects.toThrow();
    const hash = await blobs.put(bytesOf(1000), { unsettled: true });
    await blobs.settle();
    await blobs.settle();

    expect(Buffer.from(await blobs.read(hash)).equals(bytesOf(1000))).toBe(true);
    expect(sha256(failing).slice(0, 2)).not.toBe(hash.slice(0, 2));
    expect(readdirSync(path.join(folder.dir, 'partial'))).toEqual([]);
  });

  test('are gone after delete; what is not there, or no hash, is not found', async () => {
    using folder = temporaryFolder();
    const blobs = createBlobStore(folder.dir);
    const hash = await blobs.put(bytesOf(10));

    await blobs.delete(hash);
    await blobs.delete(hash);
    await blobs.delete('../../etc');

    for (const name of [hash, absent, '../../../etc/passwd', '']) {
      expect(blobs.has(name)).toBe(false);
      expect(() => blobs.path(name)).toThrow(withCode('NOT_FOUND'));
      await expect(blobs.read(name)).rejects.toThrow(withCode('NOT_FOUND'));
    }
  });

  test('a blob that the disk damaged is not given out, and can be fetched again', async () => {
    using folder = temporaryFolder();
    const blobs = createBlobStore(folder.dir);
    const hash = await blobs.put(bytesOf(100));
    writeFileSync(blobs.path(hash), bytesOf(99));

    await expect(blobs.read(hash)).rejects.toThrow(withCode('BLOB_CORRUPT'));

    expect(blobs.has(hash)).toBe(false);
    await blobs.put(bytesOf(100));
    expect((await blobs.read(hash)).length).toBe(100);
  });

  test('what a killed writer left is removed later, what another one writes now is not', async () => {
    using folder = temporaryFolder();
    createBlobStore(folder.dir);
    const partial = path.join(folder.dir, 'partial');
    writeFileSync(path.join(partial, 'old.tmp'), 'x');
    utimesSync(path.join(partial, 'old.tmp'), 0, 0);
    writeFileSync(path.join(partial, 'new.tmp'), 'x');

    createBlobStore(folder.dir);

    expect(readdirSync(partial)).toEqual(['new.tmp']);
  });
});

describe('blobs that arrive in chunks', () => {
  const bytes = bytesOf(1000);
  const hash = sha256(bytes);

  test('come in any order, twice, and from several instances', async () => {
    using folder = temporaryFolder();
    const first = await createBlobStore(folder.dir).openPartial(hash, 1000, 300);
    expect(first.chunks).toBe(4);
    await Promise.all([3, 1, 1].map((index) => first.write(index, chunkOf(bytes, index, 300))));
    await first.suspend();

    const blobs = createBlobStore(folder.dir);
    const second = await blobs.openPartial(hash, 1000, 300);
    expect(second.missing()).toEqual([0, 2]);
    for (const index of second.missing()) await second.write(index, chunkOf(bytes, index, 300));
    expect(blobs.has(hash)).toBe(false);
    await second.complete();

    expect(Buffer.from(await blobs.read(hash)).equals(bytes)).toBe(true);
    expect(readdirSync(path.join(folder.dir, 'partial'))).toEqual([]);
    const done = await blobs.openPartial(hash, 1000, 300);
    expect(done.missing()).toEqual([]);
    await done.complete();
  });

  test('a repeated chunk changes nothing, not even with other bytes', async () => {
    using folder = temporaryFolder();
    const blobs = createBlobStore(folder.dir);
    const partial = await blobs.openPartial(hash, 1000, 500);

    await partial.write(0, chunkOf(bytes, 0, 500));
    await partial.write(0, new Uint8Array(500));
    await partial.write(1, chunkOf(bytes, 1, 500));
    await partial.complete();

    expect(sha256(await blobs.read(hash))).toBe(hash);
  });

  test.each([
    ['a short chunk', 0, 299],
    ['a long last chunk', 3, 300],
    ['a number past the end', 4, 0],
    ['a negative number', -1, 300],
    ['half a number', 0.5, 300],
  ])('%s is refused', async (_, index, length) => {
    using folder = temporaryFolder();
    const partial = await createBlobStore(folder.dir).openPartial(hash, 1000, 300);

    await expect(partial.write(index, new Uint8Array(length))).rejects.toThrow(withCode('BLOB_CORRUPT'));

    expect(partial.missing()).toEqual([0, 1, 2, 3]);
    await partial.suspend();
  });

  test('a wrong content is thrown away whole; a missing chunk throws nothing away', async () => {
    using folder = temporaryFolder();
    const blobs = createBlobStore(folder.dir);
    const partial = await blobs.openPartial(hash, 1000, 500);
    await partial.write(0, new Uint8Array(500));
    await expect(partial.complete()).rejects.toThrow(withCode('BLOB_CORRUPT'));
    expect(partial.missing()).toEqual([1]);
    await partial.write(1, new Uint8Array(500));

    await expect(partial.complete()).rejects.toThrow(withCode('BLOB_CORRUPT'));

    expect(blobs.has(hash)).toBe(false);
    const again = await blobs.openPartial(hash, 1000, 500);
    expect(again.missing()).toEqual([0, 1]);
    await again.suspend();
  });

  test('a transfer that is cut in another way, or whose journal is damaged, starts anew', async () => {
    using folder = temporaryFolder();
    const blobs = createBlobStore(folder.dir);
    const begin = async (chunkBytes: number) => {
      const partial = await blobs.openPartial(hash, 1000, chunkBytes);
      const missing = partial.missing().length;
      await partial.write(0, chunkOf(bytes, 0, chunkBytes));
      await partial.suspend();
      return missing;
    };

    expect(await begin(500)).toBe(2);
    expect(await begin(500)).toBe(1);
    expect(await begin(250)).toBe(4);
    const journal = path.join(folder.dir, 'partial', `${hash}.journal`);
    writeFileSync(journal, readFileSync(journal).subarray(0, 17));
    expect(await begin(250)).toBe(4);
  });

  test('an empty blob is complete at once; impossible sizes are refused', async () => {
    using folder = temporaryFolder();
    const blobs = createBlobStore(folder.dir);
    const empty = sha256('');

    const partial = await blobs.openPartial(empty, 0, 300);
    await partial.complete();

    expect(blobs.sizeBytes(empty)).toBe(0);
    for (const [size, chunk] of [
      [-1, 300],
      [1.5, 300],
      [10, 0],
      [Number.NaN, 1],
    ] as const) {
      await expect(blobs.openPartial(absent, size, chunk)).rejects.toThrow(withCode('BLOB_CORRUPT'));
    }
    await expect(blobs.openPartial('../x', 1, 1)).rejects.toThrow(withCode('BLOB_CORRUPT'));
  });

  test.runIf(process.platform === 'linux')(
    'a full disk is named as such, and the chunk stays missing',
    async () => {
      using folder = temporaryFolder();
      const blobs = createBlobStore(folder.dir);
      await (await blobs.openPartial(hash, 1000, 300)).suspend();
      const dataFile = path.join(folder.dir, 'partial', hash);
      rmSync(dataFile);
      // The system's own full disk: each write to it fails with ENOSPC.
      symlinkSync('/dev/full', dataFile);
      const partial = await blobs.openPartial(hash, 1000, 300);

      await expect(partial.write(1, chunkOf(bytes, 1, 300))).rejects.toThrow(withCode('DISK_FULL'));

      expect(partial.missing()).toEqual([0, 1, 2, 3]);
      await partial.suspend().catch(() => 'a device cannot be synced');
    },
  );
});
