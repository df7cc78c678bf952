/** A site gives the coordinator back what it has named as a part of the shared model, and nothing else that lies here. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { sha256 as hashOf } from '../../core/shared/hash.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { createBlobExchange } from '../../core/transport/blob-exchange.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { chunkBytes } from '../../core/transport/messages.ts';
import { coordinatorId } from '../../core/transport/topics.ts';
import { signerOf } from '../contract/test-brokers.ts';
import { startConnectedSite } from '../fixtures/connected-site.ts';
import { federation } from '../fixtures/lone-coordinator.ts';
import { addImage, temporaryFolder } from '../fixtures/store.ts';

test('a state and a part under it come back; crops, updates of nobody and unknown files do not', async () => {
  using folder = temporaryFolder();
  const broker = createMemoryBroker();
  mkdirSync(path.join(folder.dir, 'site'));
  await using site = await startConnectedSite(broker, path.join(folder.dir, 'site'), 'site-a');
  const atSite = createBlobStore(path.join(folder.dir, 'site', 'blobs'));
  const put = (text: string) => atSite.put(Buffer.from(text));
  const [state, part, crop, stray] = [
    await put('state'),
    await put('part'),
    await put('crop'),
    await put('stray'),
  ];
  const config = defaultRunConfig({ baseId: 'base', baseSha256: hashOf('base'), classes: ['a', 'b'] });
  site.store.runs.insert({ id: 'run', config });
  site.store.modelVersions.learn({ runId: 'run', round: 0, sha256: state });
  site.store.rounds.insert({
    ...{ runId: 'run', round: 1, stage: 'heating', rank: 4, trainableParameters: 1, startSha256: state },
    frozenBaseParts: [part],
  });
  addImage(site.store, 'P1', 'P1', { cropSha256: crop });
  const exchange = await createBlobExchange({
    link: broker.connect({ clientId: coordinatorId }),
    ...{ federation, signer: signerOf(coordinatorId), maySend: () => false, chunkTimeoutMs: 200 },
    blobs: createBlobStore(path.join(folder.dir, 'coordinator')),
    keyOf: (peer) => signerOf(peer).publicKey,
  });
  const ask = (sha256: string, text: string) =>
    exchange.fetch({ sha256, sizeBytes: text.length, chunkBytes }, 'site-a');

  await ask(state, 'state');
  await ask(part, 'part');

  await expect(ask(crop, 'crop')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(ask(stray, 'stray')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await exchange.close();
}, 30_000);
