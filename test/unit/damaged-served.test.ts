/** A blob that is damaged on the disk, or missing, is not served, and its owner hears of it. */
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

const flippedAt = (at: number) => (file: string) => flipBit(file, at);
test.each<[string, (file: string) => void]>([
  ['with a bit flipped in the beginning', flippedAt(0)],
  ['with a bit flipped in the middle', flippedAt(0.5)],
  ['with a bit flipped at the end', flippedAt(0.999)],
  ['that is missing', (file) => rmSync(file)],
])('%s', async (_what, spoil) => {
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
  spoil(site.blobs.path(sha256));

  const reference = { sha256, sizeBytes: bytes.length, chunkBytes };
  await expect(coordinator.exchange.fetch(reference, 'site-a')).rejects.toMatchObject({ code: 'NOT_FOUND' });

  expect(damaged).toEqual([sha256]);
  expect(sentBytes).toBe(0);
  await site.exchange.close();
  await coordinator.exchange.close();
});
