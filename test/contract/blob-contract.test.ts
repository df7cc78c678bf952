/** Blobs over every broker: both directions, interrupted, resumed, damaged. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sha256 } from '../../core/shared/hash.ts';
import type { BlobStore } from '../../core/store/blob-store.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import {
  type BlobExchange,
  type BlobExchangeOptions,
  createBlobExchange,
} from '../../core/transport/blob-exchange.ts';
import { encodeChunkFrame } from '../../core/transport/chunk-frame.ts';
import { sealEnvelope } from '../../core/transport/envelope.ts';
import type { Link } from '../../core/transport/link.ts';
import { type BlobReference, chunkBytes } from '../../core/transport/messages.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import {
  brokerKinds,
  federation,
  signerOf,
  startTestBroker,
  type TestBroker,
  until,
} from './test-brokers.ts';

const topics = createTopics(federation);

interface Party {
  link: Link;
  blobs: BlobStore;
  exchange: BlobExchange;
  sent: Map<string, number>;
}

describe.each(brokerKinds('memory', 'aedes', 'mosquitto'))('blobs over %s', (kind) => {
  let broker: TestBroker;
  let folder: string;
  const cleanUp: (() => Promise<unknown>)[] = [];

  beforeEach(async () => {
    broker = await startTestBroker(kind);
    folder = await mkdtemp(path.join(tmpdir(), 'anneal-blobs-'));
  });
  afterEach(async () => {
    for (const task of cleanUp.splice(0).reverse()) await task();
    await broker.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function join(id: string, options: Partial<BlobExchangeOptions> = {}): Promise<Party> {
    const link = await broker.connect(id);
    const blobs = await createBlobStore(path.join(folder, id));
    const sent = new Map<string, number>();
    const exchange = await createBlobExchange({
      link,
      federation,
      signer: signerOf(id),
      keyOf: (peer) => signerOf(peer).publicKey,
      blobs,
      maySend: () => true,
      chunkTimeoutMs: 500,
      onSent: (peer, hash, size) => sent.set(`${peer} ${hash}`, (sent.get(`${peer} ${hash}`) ?? 0) + size),
      ...options,
    });
    cleanUp.push(
      () => link.close(),
      () => exchange.close(),
    );
    return { link, blobs, exchange, sent };
  }

  async function putBlob(
    party: Party,
    sizeBytes: number,
  ): Promise<{ reference: BlobReference; bytes: Buffer }> {
    const bytes = randomBytes(sizeBytes);
    const hash = await party.blobs.put(bytes);
    return { reference: { sha256: hash, sizeBytes, chunkBytes }, bytes };
  }

  test('go both ways, with progress and exact byte counts', async () => {
    const coordinator = await join(coordinatorId);
    const site = await join('site-a');
    const down = await putBlob(coordinator, 3 * 1024 * 1024 + 17);
    const up = await putBlob(site, 2 * 1024 * 1024);
    const progress: number[] = [];

    const [received, pulled] = await Promise.all([
      site.exchange.fetch(down.reference, coordinatorId, {
        onProgress: (bytes) => void progress.push(bytes),
      }),
      coordinator.exchange.fetch(up.reference, 'site-a'),
    ]);

    expect(received.bytesReceived).toBe(down.bytes.length);
    expect(pulled.bytesReceived).toBe(up.bytes.length);
    // The last chunk counts once the broker has acknowledged it, which may be after it has arrived.
    await expect
      .poll(() => coordinator.sent.get(`site-a ${down.reference.sha256}`), { timeout: 10_000 })
      .toBe(down.bytes.length);
    expect(progress.at(-1)).toBe(down.bytes.length);
    expect(progress).toHaveLength(13);
    expect(sha256(await site.blobs.read(down.reference.sha256))).toBe(down.reference.sha256);
    expect(Buffer.compare(await coordinator.blobs.read(up.reference.sha256), up.bytes)).toBe(0);
    // Again: it is there already.
    expect(await site.exchange.fetch(down.reference, coordinatorId)).toEqual({ bytesReceived: 0 });
  });

  test('go on after the broker was killed in mid-transfer', async () => {
    const coordinator = await join(coordinatorId);
    const site = await join('site-a');
    const { reference } = await putBlob(coordinator, 8 * 1024 * 1024);
    let killed: Promise<void> | null = null;

    const fetching = site.exchange.fetch(reference, coordinatorId, {
      onProgress(received) {
        if (received >= 2 * 1024 * 1024 && killed === null)
          killed = broker.kill().then(() => broker.restart());
      },
    });
    const { bytesReceived } = await fetching;
    await killed;

    expect(killed).not.toBeNull();
    expect(site.blobs.has(reference.sha256)).toBe(true);
    // Only what was under way is sent twice.
    expect(bytesReceived).toBeLessThanOrEqual(reference.sizeBytes + 8 * chunkBytes);
  });

  test('go on after the receiver was restarted, without fetching again what it has', async () => {
    const coordinator = await join(coordinatorId);
    const { reference } = await putBlob(coordinator, 8 * 1024 * 1024);
    const before = await join('site-a');
    const stop = new AbortController();
    const first = before.exchange.fetch(reference, coordinatorId, {
      signal: stop.signal,
      onProgress: (received) => received >= 6 * 1024 * 1024 && stop.abort(),
    });
    await expect(first).rejects.toMatchObject({ code: 'CANCELLED' });
    await before.exchange.close();
    await before.link.close();

    const after = await join('site-a');
    const { bytesReceived } = await after.exchange.fetch(reference, coordinatorId);

    expect(after.blobs.has(reference.sha256)).toBe(true);
    // What was missing; chunks that the first receiver had asked for may still be on their way, and then arrive twice.
    expect(bytesReceived).toBeLessThanOrEqual(2 * 1024 * 1024 + 8 * chunkBytes);
  });

  test('wrong bytes are found by the hash, and fetched again', async () => {
    const coordinator = await broker.connect(coordinatorId);
    cleanUp.push(() => coordinator.close());
    const site = await join('site-a');
    const bytes = randomBytes(chunkBytes + 1000);
    const reference = { sha256: sha256(bytes), sizeBytes: bytes.length, chunkBytes };
    // A peer that answers wrongly: first with damaged bytes, then with a wrong length, then as it should.
    let asked = 0;
    await coordinator.subscribe(topics.everySite.chunkRequests, async (message) => {
      const { indices } = JSON.parse(Buffer.from(message.payload).toString()).body as { indices: number[] };
      asked++;
      for (const index of indices) {
        const right = bytes.subarray(index * chunkBytes, (index + 1) * chunkBytes);
        const wrong = asked === 1 ? Buffer.alloc(right.length, 1) : right.subarray(1);
        const frame = {
          kind: 'data' as const,
          sha256: reference.sha256,
          index,
          bytes: asked <= 2 ? wrong : right,
        };
        await coordinator.publish(topics.chunks('site-a', 'down'), encodeChunkFrame(frame));
      }
    });

    await site.exchange.fetch(reference, coordinatorId);

    expect(asked).toBeGreaterThanOrEqual(3);
    expect(Buffer.compare(await site.blobs.read(reference.sha256), bytes)).toBe(0);
  });

  test.each([
    ['wrong bytes', 5000],
    ['chunks that are too short', 4999],
  ])('a peer that sends nothing but %s is given up, and nothing is kept', async (_what, length) => {
    const coordinator = await broker.connect(coordinatorId);
    cleanUp.push(() => coordinator.close());
    const site = await join('site-a');
    const reference = { sha256: sha256('never sent'), sizeBytes: 5000, chunkBytes };
    await coordinator.subscribe(topics.everySite.chunkRequests, async () => {
      const bytes = Buffer.alloc(length, 7);
      const frame = { kind: 'data' as const, sha256: reference.sha256, index: 0, bytes };
      await coordinator.publish(topics.chunks('site-a', 'down'), encodeChunkFrame(frame));
    });

    await expect(site.exchange.fetch(reference, coordinatorId)).rejects.toMatchObject({
      code: 'BLOB_CORRUPT',
    });
    expect(site.blobs.has(reference.sha256)).toBe(false);
  });

  test('a few chunks that are too short cost no pass: they are asked for again', async () => {
    const coordinator = await broker.connect(coordinatorId);
    cleanUp.push(() => coordinator.close());
    const site = await join('site-a', { chunkTimeoutMs: 30_000 });
    const bytes = randomBytes(3 * chunkBytes);
    const reference = { sha256: sha256(bytes), sizeBytes: bytes.length, chunkBytes };
    const timesAsked = [0, 0, 0];
    await coordinator.subscribe(topics.everySite.chunkRequests, async (message) => {
      const { indices } = JSON.parse(Buffer.from(message.payload).toString()).body as { indices: number[] };
      for (const index of indices) {
        const right = bytes.subarray(index * chunkBytes, (index + 1) * chunkBytes);
        timesAsked[index] = (timesAsked[index] ?? 0) + 1;
        const sent = timesAsked[index] === 1 ? right.subarray(1) : right;
        const frame = { kind: 'data' as const, sha256: reference.sha256, index, bytes: sent };
        await coordinator.publish(topics.chunks('site-a', 'down'), encodeChunkFrame(frame));
      }
    });

    await site.exchange.fetch(reference, coordinatorId);

    expect(timesAsked).toEqual([2, 2, 2]);
    expect(Buffer.compare(await site.blobs.read(reference.sha256), bytes)).toBe(0);
  });

  test('what a peer may not have or does not have is refused at once', async () => {
    const forbidden = new Set<string>();
    const coordinator = await join(coordinatorId, {
      maySend: (peer, hash) => !forbidden.has(`${peer} ${hash}`),
    });
    const site = await join('site-a');
    const { reference } = await putBlob(coordinator, 1000);
    forbidden.add(`site-a ${reference.sha256}`);
    const unknown = { ...reference, sha256: sha256('unknown') };

    await expect(site.exchange.fetch(reference, coordinatorId)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(site.exchange.fetch(unknown, coordinatorId)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(coordinator.sent.size).toBe(0);
  });

  test('requests that are forged, replayed or for another federation are not answered', async () => {
    const coordinator = await join(coordinatorId);
    const { reference } = await putBlob(coordinator, 1000);
    const site = await broker.connect('site-a');
    cleanUp.push(() => site.close());
    let answers = 0;
    await site.subscribe(topics.chunks('site-a', 'down'), () => void answers++);
    const body = { sha256: reference.sha256, chunkBytes, indices: [0] };
    const request = { federation, recipient: coordinatorId, type: 'blob-request', body };
    const ask = (bytes: Uint8Array) => site.publish(topics.chunkRequests('site-a', 'up'), bytes);

    await ask(sealEnvelope(request, { ...signerOf('site-b'), id: 'site-a' }));
    await ask(sealEnvelope(request, signerOf('site-b')));
    await ask(sealEnvelope({ ...request, federation: 'another' }, signerOf('site-a')));
    await ask(Buffer.from('not an envelope'));
    const genuine = sealEnvelope(request, signerOf('site-a'));
    await ask(genuine);
    await until(() => answers > 0);
    await ask(genuine);
    // Asked after the replay and answered: so the replay was dropped, not merely late.
    await ask(sealEnvelope(request, signerOf('site-a')));
    await until(() => answers > 1);

    expect(answers).toBe(2);
  });

  test('a peer that is away is waited for, or given up when asked to', async () => {
    const site = await join('site-a');
    const bytes = randomBytes(300_000);
    const reference = { sha256: sha256(bytes), sizeBytes: bytes.length, chunkBytes };
    const givenUp = site.exchange.fetch(reference, coordinatorId, { giveUpMs: 300 });
    await expect(givenUp).rejects.toMatchObject({ code: 'BROKER_UNREACHABLE' });

    // The blob may be asked for before it is put; then the peer says that it has none.
    const waiting = site.exchange.fetch(reference, coordinatorId).catch((error) => error.code);
    const coordinator = await join(coordinatorId, { maySend: () => true });
    await coordinator.blobs.put(bytes);
    if ((await waiting) === 'NOT_FOUND') await site.exchange.fetch(reference, coordinatorId);

    expect(site.blobs.has(reference.sha256)).toBe(true);
  });
});
