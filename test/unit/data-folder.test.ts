import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { lockDataFolder, openDataFolder } from '../../core/store/data-folder.ts';
import { temporaryFolder } from '../fixtures/store.ts';

describe('the data folder', () => {
  test('is made with its sub-folders, for this account only', async () => {
    using folder = temporaryFolder();
    const dir = path.join(folder.dir, 'hospital', 'anneal data');

    const opened = openDataFolder(dir);

    expect(opened.dbFile).toBe(path.join(dir, 'anneal.db'));
    for (const sub of [
      opened.dir,
      opened.logsDir,
      opened.cropsDir,
      opened.trainingDir,
      opened.keysDir,
      opened.modelsDir,
    ]) {
      if (process.platform !== 'win32') expect(statSync(sub).mode & 0o777).toBe(0o700);
    }
    const hash = await opened.blobs.put(Uint8Array.of(1));
    expect(openDataFolder(dir).blobs.has(hash)).toBe(true);
    expect(readdirSync(dir).sort()).toEqual(['blobs', 'crops', 'keys', 'logs', 'models', 'training']);
  });

  test('closes a key folder that was open to others', () => {
    using folder = temporaryFolder();
    mkdirSync(path.join(folder.dir, 'keys'), { mode: 0o755 });

    const { keysDir } = openDataFolder(folder.dir);

    if (process.platform !== 'win32') expect(statSync(keysDir).mode & 0o777).toBe(0o700);
  });

  test('cannot be a file, nor lie below one; the message names no path', () => {
    using folder = temporaryFolder();
    const file = path.join(folder.dir, 'file');
    writeFileSync(file, '');
    const unusable = expect.objectContaining({
      code: 'DATA_FOLDER_UNUSABLE',
      message: expect.not.stringContaining(folder.dir),
    });

    expect(() => openDataFolder(file)).toThrow(unusable);
    expect(() => openDataFolder(path.join(file, 'below'))).toThrow(unusable);
    expect(() => lockDataFolder(path.join(file, 'below'))).toThrow(unusable);
  });
});

describe('the lock of the data folder', () => {
  test('is held once, also within one process, until it is released', () => {
    using folder = temporaryFolder();
    const inUse = expect.objectContaining({ code: 'DATA_FOLDER_IN_USE' });
    const first = lockDataFolder(folder.dir);

    expect(() => lockDataFolder(folder.dir)).toThrow(inUse);
    // A second attempt that failed must not have loosened the lock.
    expect(() => lockDataFolder(path.join(folder.dir, '.'))).toThrow(inUse);
    first.release();
    first.release();

    const second = lockDataFolder(folder.dir);
    first.release();
    expect(() => lockDataFolder(folder.dir)).toThrow(inUse);
    second.release();
  });

  test('of two folders do not concern each other', () => {
    using one = temporaryFolder();
    using two = temporaryFolder();

    const locks = [lockDataFolder(one.dir), lockDataFolder(two.dir)];

    for (const lock of locks) lock.release();
  });
});
