/** Files that a person named: nothing is replaced, also on disks without hard links; and read to their end, or not at all. */
import { execFileSync } from 'node:child_process';
import fs, { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { readAtMost, readNamedFile, writeNewFile } from '../../core/store/atomic-file.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const { link } = fs.promises;
afterEach(() => {
  fs.promises.link = link;
  syncBuiltinESMExports();
});

/** As exFAT answers on Linux; no such disk can be made here. */
function withoutLinks(): void {
  fs.promises.link = () => Promise.reject(Object.assign(new Error('no links here'), { code: 'EPERM' }));
  syncBuiltinESMExports();
}

describe('a new file', () => {
  test.each([
    ['with hard links', () => {}],
    ['without them', withoutLinks],
  ])('%s is whole, for its owner alone, and replaces nothing', async (_what, prepare) => {
    prepare();
    using folder = temporaryFolder();
    const file = join(folder.dir, 'new.txt');

    await writeNewFile(file, [Buffer.from('one '), Buffer.from('two')]);
    const refused = writeNewFile(file, 'three');

    await expect(refused).rejects.toMatchObject({
      code: 'FILE_EXISTS',
      action: expect.not.stringContaining('--force'),
    });
    await expect(writeNewFile(file, 'three', false)).rejects.toMatchObject({
      action: expect.stringContaining('--force'),
    });
    expect(readFileSync(file, 'utf8')).toBe('one two');
    expect(readdirSync(folder.dir)).toEqual(['new.txt']);
    if (process.platform !== 'win32') expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  test('with a name that is too long is refused in a sentence', async () => {
    using folder = temporaryFolder();
    await expect(writeNewFile(join(folder.dir, 'x'.repeat(300)), '')).rejects.toMatchObject({
      code: 'FILE_UNREADABLE',
    });
  });
});

describe('a file that is read', () => {
  test.each([0, 1, 99, 100])('of %i bytes is read whole, up to the most that is allowed', async (size) => {
    using folder = temporaryFolder();
    const file = join(folder.dir, 'file');
    writeFileSync(file, 'a'.repeat(size));
    expect(String(await readAtMost(file, 100))).toBe('a'.repeat(size));
  });

  test('is too large with one byte more', async () => {
    using folder = temporaryFolder();
    const file = join(folder.dir, 'file');
    writeFileSync(file, 'a'.repeat(101));
    expect(await readAtMost(file, 100)).toBe('too large');
    await expect(readNamedFile(file, 100)).rejects.toMatchObject({ code: 'FILE_UNREADABLE' });
  });

  // The kernel says of its own files that they are empty.
  test.skipIf(process.platform !== 'linux')('is read to its end whatever its size says', async () => {
    const whole = readFileSync('/proc/filesystems');
    expect(whole.length).toBeGreaterThan(100);
    expect(await readAtMost('/proc/filesystems', 2 ** 20)).toEqual(whole);
    expect(await readAtMost('/proc/filesystems', 100)).toBe('too large');
  });

  test('is no folder', async () => {
    using folder = temporaryFolder();
    await expect(readNamedFile(folder.dir, 100)).rejects.toMatchObject({ code: 'FILE_UNREADABLE' });
  });

  test.skipIf(process.platform === 'win32')('is no pipe that nobody writes to', async () => {
    using folder = temporaryFolder();
    const pipe = join(folder.dir, 'pipe');
    execFileSync('mkfifo', [pipe]);
    expect(await readAtMost(pipe, 100)).toBe('not a file');
  });
});
