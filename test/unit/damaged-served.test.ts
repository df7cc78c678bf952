/** A blob that is damaged on the disk is not served, and its owner hears of it. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { createBlobStore } from '../../core/store/blobs.ts';
import { createBlobExchange } from '../../core/transport/blob-exchange.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { chunkBytes } from '../../core/transport/messages.ts';
import { coordinatorId } from '../../core/transport/topics.ts';
import { federation, signerOf } from '../contract/test-brokers.ts';
import { flipBit } from '../fixtures/flip-bit.ts';
import { temporaryFolder } from '../fixtures/store.ts';

/** A site that serves, and a coordinator that asks. */
async function openPair(dir: string) {
  const broker = createMemoryBroker();
  const damaged: string[] = [];
  let sentBytes = 0;
  const join = async (id: string) => {
    const blobs = createBlobStore(path.join(dir, id));
    const exchange = await createBlobExchange({
      link: broker.connect({ clientId: id }),
      ...{ federation, signer: signerOf(id), blobs, maySend: () => true, chunkTimeoutMs: 200 },
      keyOf: (peer) => signerOf(peer).publicKey,
      onSent(_peer, _sha256, size) {
        sentBytes += size;
      },
      onDamaged: (sha256) => void damaged.push(sha256),
    });
    return { blobs, exchange };
  };
  const site = await join('site-a');
  const coordinator = await join(coordinatorId);
  const bytes = Buffer.alloc(3 * chunkBytes + 5, 7);
  const sha256 = await site.blobs.put(bytes);
  const reference = { sha256, sizeBytes: bytes.length, chunkBytes };
  return {
    ...{ blobs: site.blobs, bytes, sha256, damaged },
    sentBytes: () => sentBytes,
    fetch: () => coordinator.exchange.fetch(reference, 'site-a'),
    async [Symbol.asyncDispose]() {
      await site.exchange.close();
      await coordinator.exchange.close();
    },
  };
}

const ways: [string, (file: string) => void][] = [
  ...[0, 0.5, 0.999].map((at): [string, (file: string) => void] => [
    `with a bit flipped at ${at} of its length`,
    (file) => flipBit(file, at),
  ]),
  ['that is gone', (file) => rmSync(file)],
];

test.each(ways)(
  'one %s is not served, and its owner hears of it; made anew it is served at once',
  async (_, damage) => {
    using folder = temporaryFolder();
    await using pair = await openPair(folder.dir);
    damage(pair.blobs.path(pair.sha256));

    await expect(pair.fetch()).rejects.toMatchObject({ code: 'NOT_FOUND' });

    await expect(pair.fetch()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    // Once, however often it is asked for.
    expect(pair.damaged).toEqual([pair.sha256]);
    expect(pair.sentBytes()).toBe(0);

    expect(await pair.blobs.put(pair.bytes)).toBe(pair.sha256);
    await pair.fetch();

    expect(pair.sentBytes()).toBeGreaterThanOrEqual(pair.bytes.length);
  },
);
