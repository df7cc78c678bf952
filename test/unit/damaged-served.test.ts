/** A blob that is damaged on the disk is not served, and its owner hears of it. */
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

test.each([0, 0.5, 0.999])('with a bit flipped at %d of its length', async (at) => {
  using folder = temporaryFolder();
  const broker = createMemoryBroker();
  const damaged: string[] = [];
  let sentBytes = 0;
  const join = async (id: string) => {
    const blobs = createBlobStore(path.join(folder.dir, id));
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
  flipBit(site.blobs.path(sha256), at);

  const reference = { sha256, sizeBytes: bytes.length, chunkBytes };
  await expect(coordinator.exchange.fetch(reference, 'site-a')).rejects.toMatchObject({ code: 'NOT_FOUND' });

  expect(damaged).toEqual([sha256]);
  expect(sentBytes).toBe(0);
  await site.exchange.close();
  await coordinator.exchange.close();
});
