import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createBlobStore } from '../../core/store/blobs.ts';
import { lockDataFolder } from '../../core/store/data-folder.ts';
import { openStore } from '../../core/store/store.ts';
import { partialContent } from '../fixtures/partial-content.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const script = fileURLToPath(new URL('../fixtures/store-child.ts', import.meta.url));

/** Starts a task and kills it with SIGKILL as soon as it has printed so many lines; gives the last one. */
async function killAfter(task: string, dir: string, lines: number): Promise<string> {
  const child = spawn(process.execPath, [script, task, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    return await lineNumber(child, lines);
  } finally {
    await kill(child);
  }
}

async function lineNumber(child: ChildProcess, lines: number): Promise<string> {
  let seen = 0;
  for await (const line of createInterface(child.stdout!)) if (++seen === lines) return line;
  throw new Error(`the child ended after ${seen} lines`);
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

describe('after kill -9', () => {
  test('half a transaction is gone, and all that was committed is there', async () => {
    using folder = temporaryFolder();

    await killAfter('half-transaction', folder.dir, 1);

    const store = openStore(path.join(folder.dir, 'anneal.db'));
    expect(store.settings.get('committed', z.boolean())).toBe(true);
    expect(store.settings.get('half', z.boolean())).toBeNull();
    expect(store.outbox.pending()).toEqual([]);
    expect(store.audit.verify()).toMatchObject({ intact: true, rows: 0 });
    store.close();
  });

  test('in the middle of many commits, each is there as a whole or not at all', async () => {
    using folder = temporaryFolder();

    for (const lines of [3, 40]) {
      const before = countAndCheck(folder.dir);
      const last = Number(await killAfter('many-commits', folder.dir, lines));
      const after = countAndCheck(folder.dir);
      // What was printed was committed; of what came later, an unknown number.
      expect(after - before).toBeGreaterThanOrEqual(last + 1);
    }
  });

  test('the lock of the data folder is free again', async () => {
    using folder = temporaryFolder();
    const child = spawn(process.execPath, [script, 'lock', folder.dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      await lineNumber(child, 1);
      expect(() => lockDataFolder(folder.dir)).toThrow(
        expect.objectContaining({ code: 'DATA_FOLDER_IN_USE' }),
      );
    } finally {
      await kill(child);
    }

    const lock = lockDataFolder(folder.dir);

    lock.release();
  });

  test('a transfer goes on with the chunks that had not arrived', async () => {
    using folder = temporaryFolder();
    const { bytes, sha256, chunkBytes } = partialContent;

    await killAfter('partial', folder.dir, 100);
    const last = Number(await killAfter('partial', folder.dir, 150));

    const blobs = createBlobStore(folder.dir);
    const partial = await blobs.openPartial(sha256, bytes.length, chunkBytes);
    const missing = partial.missing();
    // The second child began where the first had been killed.
    expect(last).toBeGreaterThanOrEqual(249);
    expect(missing[0]).toBeGreaterThan(last);
    for (const index of missing) {
      await partial.write(index, bytes.subarray(index * chunkBytes, (index + 1) * chunkBytes));
    }
    await partial.complete();
    expect(blobs.sizeBytes(sha256)).toBe(bytes.length);
  });
});

/** Messages in the database; each must have its audit row. */
function countAndCheck(dir: string): number {
  const store = openStore(path.join(dir, 'anneal.db'));
  const messages = store.outbox.pending(100_000).length;
  expect(store.audit.verify()).toMatchObject({ intact: true, rows: messages });
  store.close();
  return messages;
}
