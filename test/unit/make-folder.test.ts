import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { makeFolder } from '../../core/store/make-folder.ts';
import { temporaryFolder } from '../fixtures/store.ts';

test('makes a folder with those above it, and leaves one that is there', () => {
  using folder = temporaryFolder();
  const deep = path.join(folder.dir, 'a', 'b', 'c');

  makeFolder(deep, { mode: 0o700 });
  makeFolder(deep);

  expect(statSync(deep).isDirectory()).toBe(true);
  if (process.platform !== 'win32') expect(statSync(deep).mode & 0o777).toBe(0o700);
});

test('a file in the way is an error, in place of the folder or above it', () => {
  using folder = temporaryFolder();
  const file = path.join(folder.dir, 'file');
  writeFileSync(file, '');

  expect(() => makeFolder(file)).toThrow(/EEXIST/);
  expect(() => makeFolder(path.join(file, 'below', 'it'))).toThrow(/ENOTDIR/);
});

test.skipIf(process.platform !== 'linux')('ends where no folder can be made (Linux has such a place)', () => {
  expect(() => makeFolder('/proc/anneal/nothing/here')).toThrow(/ENOENT/);
});
