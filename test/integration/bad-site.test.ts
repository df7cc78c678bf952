/** A site that misbehaves, over the embedded broker: it is told why, cut off and kept out, and the others notice nothing. */
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isWelcome } from '../../core/coordinator/admission.ts';
import { connectCoordinator } from '../../core/coordinator/connection.ts';
import { type CoordinatorNode, createCoordinator } from '../../core/coordinator/coordinator.ts';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { connectSite, type SiteConnection } from '../../core/site/connection.ts';
import type { BlobStore } from '../../core/store/blob-store.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import { encodeChunkFrame } from '../../core/transport/chunk-frame.ts';
import { openEnvelope, sealEnvelope } from '../../core/transport/envelope.ts';
import type { Link } from '../../core/transport/link.ts';
import { blobRequestSchema, chunkBytes, type DismissedBody } from '../../core/transport/messages.ts';
import { createPresence } from '../../core/transport/presence.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import { federation, signerOf, startTestBroker, type TestBroker } from '../contract/test-brokers.ts';
import { until } from '../fixtures/federation.ts';
import { askedBy } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

const base = shapeOnlyBase();
const topics = createTopics(federation);
const [good, bad] = ['site-good', 'site-bad'] as const;
const dismissalMs = 4_000;

let broker: TestBroker;
let store: Store;
let node: CoordinatorNode;
let links: Map<string, Link>;
let connections: Map<string, SiteConnection>;
let blobs: BlobStore;
let dismissals: DismissedBody[];
let closers: (() => Promise<void> | void)[];
/** Of the messages that are made up here; beyond what the real site reaches in a test. */
let parts = 1_000_000;

/** A site of the deployed code, which does no rounds. */
async function joinSite(siteId: string): Promise<void> {
  const presence = createPresence(federation, signerOf(siteId));
  const link = await broker.connect(siteId, { will: presence.will });
  links.set(siteId, link);
  presence.attach(link);
  const own = openTestStore();
  const folder = temporaryFolder();
  const site = connectSite({
    ...{ link, federation, signer: signerOf(siteId), name: siteId, version: '1', logger: silentLogger },
    coordinatorPublicKey: signerOf(coordinatorId).publicKey,
    ...{ baseIds: async () => [base.id], store: own.store, blobs: createBlobStore(folder.dir) },
    ...{ policy: () => null, onManifest: () => {}, onUnreadable: () => {}, onReceipt: () => true },
    ...(siteId === bad && { onDismissed: (body: DismissedBody) => void dismissals.push(body) }),
  });
  await site.open();
  connections.set(siteId, site);
  closers.push(async () => {
    await site.close();
    await link.close();
    for (const opened of [own, folder]) opened[Symbol.dispose]();
  });
}

beforeEach(async () => {
  [links, connections, dismissals, closers] = [new Map(), new Map(), [], []];
  const folder = temporaryFolder();
  // By the real clock: a site is kept out for a while.
  store = openStore(path.join(folder.dir, 'anneal.db'));
  broker = await startTestBroker('aedes', {
    mayConnect: ({ siteId }) => isWelcome(store.sites.get(siteId), store.now()),
  });
  for (const id of [good, bad])
    store.sites.upsert({ id, name: id, publicKey: signerOf(id).publicKey, certificateSerial: 'x' });
  blobs = createBlobStore(path.join(folder.dir, 'center'));
  const link = await broker.connect(coordinatorId);
  const connection = connectCoordinator({
    ...{ link, federation, coordinatorName: 'Test', version: '1', signer: signerOf(coordinatorId) },
    ...{ store, blobs, logger: silentLogger, onProgress: () => {} },
    ...{
      dismissalMs,
      budget: { messagesPerMinute: 300 },
      disconnect: (siteId: string) => broker.drop!(siteId),
    },
  });
  node = createCoordinator({
    ...{ federation, askedBy, brokerAddress: broker.url, store, blobs, logger: silentLogger },
    catalogue: { ...createCatalogue(), load: async () => base, resolve: async () => base.id },
    ports: connection.ports,
    createInvitation: () => Promise.reject(new Error('none')),
    disconnect: () => {},
    products: createOnnxRuntimeProducts(),
    onChange: () => {},
  });
  await connection.open(node.inbox);
  for (const id of [good, bad]) await joinSite(id);
  closers.push(async () => {
    await node.close();
    await connection.close();
    await link.close();
    await broker.close();
    store.close();
    folder[Symbol.dispose]();
  });
  await until('both sites', async () => (await rowOf(good))!.online && (await rowOf(bad))!.online, 10_000);
}, 60_000);

afterEach(async () => {
  for (const close of closers) await close();
}, 60_000);

const rowOf = async (siteId: string) => (await node.overview()).sites.find(({ id }) => id === siteId);
/** With the place of a message that the real site could send next: without one it would be dropped as a replay. */
const seal = (type: string, body: unknown) => {
  const known = store.peers.current(bad);
  const order = known && { epoch: known.epoch, counter: known.counter, part: ++parts };
  return sealEnvelope(
    { federation, recipient: coordinatorId, type, body, ...(order && { stamp: { order } }) },
    signerOf(bad),
  );
};
const up = topics.message(bad, 'up');

/** A run with an open round of one site. */
async function startRun(): Promise<string> {
  const { id } = await node.startRun({
    baseId: base.id,
    classes: ['a', 'b'],
    quorum: 1,
    rounds: 4,
    headStart: 'random',
  });
  await until('the first round', async () => store.rounds.get(id, 0), 10_000);
  return id;
}

/** Sends until the connection is cut, at most so often. @returns how often */
async function flood(
  most: number,
  next: (index: number) => [topic: string, payload: Uint8Array],
): Promise<number> {
  const link = links.get(bad)!;
  for (let index = 0; index < most; index++) {
    if (!link.online) return index;
    await link.publish(...next(index)).catch(() => {});
  }
  return most;
}

const announcement = (runId: string, index: number, sizeBytes: number) => {
  const update = { sha256: sha256(`garbage ${index}`), sizeBytes, chunkBytes };
  return seal('announce', { runId, round: 0, update, examples: 5, meanLoss: 1, steps: 1 });
};

test.each<[string, RegExp, (runId: string) => (index: number) => [string, Uint8Array]]>([
  ['bytes that are no message', /messages that are not valid/, () => () => [up, Buffer.from('{"v":1}')]],
  [
    'messages that another one signed',
    /messages that are not valid/,
    () => () => [up, sealEnvelope({ federation, type: 'hello', body: {} }, signerOf(good))],
  ],
  [
    'numbers without bounds',
    /messages that are not valid/,
    (runId) => () => [up, seal('progress', { runId, round: 0, step: 1, steps: 1, loss: 1e308 })],
  ],
  [
    'runs that do not exist',
    /messages that are not valid/,
    () => (index) => [up, seal('declined', { runId: `run ${index}`, round: 0, reason: '' })],
  ],
  [
    'presence that is none',
    /messages that are not valid/,
    () => () => [topics.presence(bad), Buffer.from('here')],
  ],
  [
    'requests that are none',
    /messages that are not valid/,
    () => () => [topics.chunkRequests(bad, 'up'), Buffer.from('give')],
  ],
  [
    'oversized announcements',
    /announced too many updates/,
    (runId) => (index) => [up, announcement(runId, index, 2 ** 31)],
  ],
  [
    'chunks that nobody asked for',
    /data that nobody asked for/,
    () => (index) => {
      const bytes = new Uint8Array(1024);
      return [
        topics.chunks(bad, 'up'),
        encodeChunkFrame({ kind: 'data', sha256: sha256(`${index}`), index: 0, bytes }),
      ];
    },
  ],
  [
    'more than there is to say',
    /too many messages in a minute/,
    () => () => [up, seal('hello', { name: bad, version: '1', baseIds: [] })],
  ],
])(
  'a site that sends %s is told so, cut off and kept out',
  async (_what, reason, next) => {
    const runId = await startRun();
    const auditBefore = store.audit.page({ limit: 10_000 }).length;

    const sent = await flood(20_000, next(runId));
    await until('the end of the connection', async () => !links.get(bad)!.online, 10_000);

    expect(sent).toBeLessThan(20_000);
    expect(dismissals).toEqual([{ reason: expect.stringMatching(reason), until: expect.any(String) }]);
    const audit = store.audit.page({ limit: 10_000 });
    const entries = audit.slice(0, audit.length - auditBefore);
    expect(entries.filter(({ action }) => action === 'site-dismissed')).toHaveLength(1);
    expect(entries.length).toBeLessThanOrEqual(8);
    expect(store.roundSites.listOfRun(runId).length).toBeLessThanOrEqual(1);
    expect(store.updateArrivals.listOfRun(runId).length).toBeLessThanOrEqual(8);
    expect(store.runs.get(runId)!.status).toBe('running');
    expect(await rowOf(bad)).toMatchObject({ online: false, dismissal: dismissals[0] });
    expect(await rowOf(good)).toMatchObject({ online: true, dismissal: null });
    expect(links.get(good)!.online).toBe(true);
  },
  60_000,
);

test('a site that was kept out comes back by itself, with a clean slate', async () => {
  await flood(200, () => [up, Buffer.from('{"v":1}')]);
  await until('the end of the connection', async () => !links.get(bad)!.online, 10_000);
  const keptOut = await rowOf(bad);

  await until('its return', async () => (await rowOf(bad))!.online, 30_000);

  expect(keptOut!.dismissal).not.toBeNull();
  expect((await rowOf(bad))!.dismissal).toBeNull();
  await links.get(bad)!.publish(up, Buffer.from('{"v":1}'));
  expect((await rowOf(bad))!.online).toBe(true);
}, 60_000);

test('a few faults of an honest site cost it nothing', async () => {
  const runId = await startRun();

  for (let i = 0; i < 5; i++) await links.get(bad)!.publish(up, Buffer.from('no message'));
  await links.get(bad)!.publish(up, announcement(runId, 0, 2 ** 31));
  const seen = async () => store.roundSites.get(runId, 0, bad)?.status === 'rejected';
  await until('the refusal', seen, 10_000);

  expect(await rowOf(bad)).toMatchObject({ online: true, dismissal: null });
  expect(dismissals).toEqual([]);
});

test('a file whose bytes are not those that were announced is rejected, and nothing of it stays', async () => {
  const runId = await startRun();
  const link = links.get(bad)!;
  await connections.get(bad)!.close();
  const reason = async () => store.roundSites.get(runId, 0, bad)?.reason;
  // The refusal says what an update of this round has to have.
  await link.publish(up, announcement(runId, 0, 1));
  const refused = await until('the refusal', reason, 10_000);
  const sizeBytes = Number(/a file of (\d+)/.exec(refused)![1]);
  const keyOf = () => signerOf(coordinatorId).publicKey;
  const expected = { federation, recipient: bad, keyOf, bodies: { 'blob-request': blobRequestSchema } };
  let served = 0;
  await link.subscribe(topics.chunkRequests(bad, 'down'), async ({ payload }) => {
    const { sha256: wanted, indices } = openEnvelope(payload, expected).body;
    for (const index of indices) {
      const bytes = new Uint8Array(Math.min(chunkBytes, sizeBytes - index * chunkBytes)).fill(7);
      await link.publish(
        topics.chunks(bad, 'up'),
        encodeChunkFrame({ kind: 'data', sha256: wanted, index, bytes }),
      );
      served++;
    }
  });

  await link.publish(up, announcement(runId, 1, sizeBytes));
  await until('the rejection', async () => (await reason())?.includes('bytes are not those'), 10_000);

  // Three tries, as bytes may be damaged on the way.
  expect(served).toBe(3 * Math.ceil(sizeBytes / chunkBytes));
  await until('nothing of it', async () => blobs.unfinished().length === 0, 5_000);
  expect(store.runs.get(runId)!.status).toBe('running');
});
