/** What is too large for an envelope still reaches the sites, and what can never be sent is an error that a person sees. */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { defaultRunConfig, type RunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { connectCoordinator } from '../../core/coordinator/connection.ts';
import { type CoordinatorInbox, createCoordinator } from '../../core/coordinator/coordinator.ts';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { connectSite } from '../../core/site/connection.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { sealEnvelope } from '../../core/transport/envelope.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import type { ManifestBody } from '../../core/transport/messages.ts';
import { createPresence } from '../../core/transport/presence.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import { signerOf } from '../contract/test-brokers.ts';
import { until } from '../fixtures/federation.ts';
import { askedBy, manifestOf as manifestOfRound } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

const federation = 'test';
const base = shapeOnlyBase();
const names = (count: number, prefix: string) =>
  Array.from({ length: count }, (_, index) => `${prefix}-${String(index).padStart(30, '0')}`);

function openPair(siteId: string) {
  const broker = createMemoryBroker();
  const [center, site] = [openTestStore(), openTestStore()];
  const folder = temporaryFolder();
  center.store.sites.upsert({
    ...{ id: siteId, name: siteId, publicKey: signerOf(siteId).publicKey, certificateSerial: 'x' },
  });
  const common = { federation, logger: silentLogger, version: '1' };
  const blobs = createBlobStore(path.join(folder.dir, 'center'));
  const connection = connectCoordinator({
    ...common,
    link: broker.connect({ clientId: coordinatorId }),
    coordinatorName: 'Test',
    signer: signerOf(coordinatorId),
    store: center.store,
    blobs,
    onProgress: () => {},
  });
  const seen: ManifestBody[] = [];
  const siteBlobs = createBlobStore(path.join(folder.dir, 'site'));
  const siteSide = connectSite({
    ...common,
    link: broker.connect({ clientId: siteId }),
    signer: signerOf(siteId),
    coordinatorPublicKey: signerOf(coordinatorId).publicKey,
    name: siteId,
    baseIds: async () => [base.id],
    store: site.store,
    blobs: siteBlobs,
    onManifest: (manifest) => seen.push(manifest),
    policy: () => null,
    onUnreadable: ({ message }) => {
      throw new Error(message);
    },
    onReceipt: () => true,
  });
  return {
    connection,
    siteSide,
    seen,
    siteBlobs,
    broker,
    store: center.store,
    blobs,
    async [Symbol.asyncDispose]() {
      await siteSide.close();
      await connection.close();
      for (const opened of [center, site, folder]) opened[Symbol.dispose]();
    },
  };
}

function manifestOf(change: Partial<RunConfig>, rest: Partial<ManifestBody> = {}): ManifestBody {
  const start = { baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'] };
  const config = runConfigSchema.parse(defaultRunConfig({ ...start, ...change }));
  return manifestOfRound(config, base, 0, null, rest);
}

const inboxWith = (manifest: () => ManifestBody): CoordinatorInbox => ({
  received: async () => true,
  withdrawn: async () => {},
  sitesChanged: () => {},
  dismissed: () => {},
  connected: () => {},
  stateDamaged: () => {},
  bytesServed: () => {},
  bytesReceived: () => {},
  offers: () => false,
  manifest,
});

describe('a manifest that is larger than an envelope reaches the sites', () => {
  test.each([
    ['10,000 classes', manifestOf({ classes: names(10_000, 'class') })],
    [
      'participants of 4,000 sites',
      manifestOf({ participation: 0.9 }, { participants: names(3600, 'site') }),
    ],
  ])('%s', async (_what, manifest) => {
    await using pair = openPair('site-a');
    await pair.connection.open(inboxWith(() => manifest));
    await pair.siteSide.open();

    await pair.connection.ports.publishManifest();
    const [seen] = await until('the manifest', async () => (pair.seen.length > 0 ? pair.seen : null), 10_000);

    expect(seen).toEqual(manifest);
    await until('the file to go', async () => pair.siteBlobs.list().length === 0, 10_000);
  });

  test('the newest one counts when they follow each other quickly, and leaves one file at the coordinator', async () => {
    await using pair = openPair('site-a');
    let manifest = manifestOf({ classes: names(10_000, 'class') });
    await pair.connection.open(inboxWith(() => manifest));
    await pair.siteSide.open();

    for (let round = 0; round < 5; round++) {
      manifest = { ...manifest, round };
      await pair.connection.ports.publishManifest();
    }
    await until('the last manifest', async () => pair.seen.at(-1)?.round === 4, 10_000);

    expect(pair.blobs.list()).toHaveLength(1);
  });
});

test('a site that announces the manifest file as its update does not take it from the others', async () => {
  await using pair = openPair('site-a');
  const { store, blobs, connection } = pair;
  const hostile = signerOf('site-b');
  const row = { publicKey: hostile.publicKey, certificateSerial: 'y' };
  store.sites.upsert({ id: hostile.id, name: hostile.id, ...row });
  const node = createCoordinator({
    ...{ federation, brokerAddress: 'memory', store, blobs, logger: silentLogger, offlineGraceMs: 60_000 },
    askedBy,
    catalogue: { ...createCatalogue(), load: async () => base, resolve: async () => base.id },
    ports: connection.ports,
    createInvitation: () => Promise.reject(new Error('none')),
    disconnect: () => {},
    products: createOnnxRuntimeProducts(),
    onChange: () => {},
  });
  await connection.open(node.inbox);
  const presence = createPresence(federation, hostile);
  const link = pair.broker.connect({ clientId: hostile.id, will: presence.will });
  presence.attach(link);
  const say = (type: string, body: unknown) =>
    link.publish(
      createTopics(federation).message(hostile.id, 'up'),
      sealEnvelope({ federation, recipient: coordinatorId, type, body }, hostile),
    );
  await say('hello', { name: hostile.id, version: '1', baseIds: [base.id] });
  const { id: runId } = await node.startRun({
    ...{ baseId: base.id, classes: names(10_000, 'class'), quorum: 1, rounds: 4, headStart: 'random' },
  });
  const round = await until('the first round', async () => store.rounds.get(runId, 0), 10_000);
  const others = () => blobs.list().filter((sha256) => sha256 !== round.startSha256);
  const file = await until("the manifest's file", async () => others().length === 1 && others()[0], 10_000);

  const update = { sha256: file, sizeBytes: blobs.sizeBytes(file), chunkBytes: 262_144 };
  await say('announce', { runId, round: 0, update, examples: 5, meanLoss: 1, steps: 1 });
  const rejected = async () => store.roundSites.get(runId, 0, hostile.id)?.status === 'rejected';
  await until('the refusal', rejected, 10_000);
  await pair.siteSide.open();

  await until('the manifest', async () => pair.seen.at(-1)?.config.classes.length === 10_000, 10_000);
  await node.close();
});

test('a run whose manifest can never be sent fails with the reason instead of waiting for ever', async () => {
  await using pair = openPair('site-a');
  const { store, blobs, connection } = pair;
  const node = createCoordinator({
    ...{ federation, brokerAddress: 'memory', store, blobs, logger: silentLogger, offlineGraceMs: 50 },
    askedBy,
    catalogue: { ...createCatalogue(), load: async () => base, resolve: async () => base.id },
    ports: connection.ports,
    createInvitation: () => Promise.reject(new Error('none')),
    disconnect: () => {},
    products: createOnnxRuntimeProducts(),
    onChange: () => {},
  });
  // A run of an earlier version, which did not ask how large its manifest would be.
  const config = manifestOf({ classes: names(9_000, 'x'.repeat(900)) }).config;
  store.runs.insert({ id: 'run', config });
  store.adapters.insert({
    ...{
      sha256: '0'.repeat(64),
      runId: 'run',
      round: -1,
      kind: 'global',
      rank: 4,
      parameters: 1,
      sizeBytes: 1,
    },
  });
  await connection.open(node.inbox);

  await node.resume();

  expect(store.runs.get('run')).toMatchObject({
    status: 'failed',
    failure: { code: 'MESSAGE_INVALID', message: expect.stringMatching(/MiB/) },
  });
  await node.close();
});
