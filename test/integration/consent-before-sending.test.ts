/**
 * No update and no counts leave after somebody behind them has no active consent, whoever wrote that down and whether the
 * site was running, offline or online then. No state machine runs here: it is the connection itself that looks.
 */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { correctionQuestionSchema } from '../../core/config/correction.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { applyConsentRecord } from '../../core/consent/apply-record.ts';
import { freezeCohort, heldOutImages, recordEvaluationCohort } from '../../core/consent/cohort.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { correctImages } from '../../core/data/corrections.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { connectSite } from '../../core/site/connection.ts';
import { recordAnnouncement } from '../../core/site/site-records.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createBlobExchange } from '../../core/transport/blob-exchange.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { chunkBytes } from '../../core/transport/messages.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import { federation, signerOf } from '../contract/test-brokers.ts';
import { addImage, addRun, eraseSubject, openTestStore, temporaryFolder } from '../fixtures/store.ts';

const siteId = 'site-a';
const purpose = 'federated-training';
const stateSha256 = sha256('the state');
const people = ['P1', 'P2', 'H1', 'H2'];
const updateBytes = Buffer.alloc(2 * chunkBytes + 7, 3);
const longEnoughMs = 120;
const pause = (ms = longEnoughMs) => new Promise((resolve) => setTimeout(resolve, ms));

/** An update and counts are in the outbox; nobody has answered. */
async function openWorld() {
  const folder = temporaryFolder();
  const opened = openTestStore();
  const { store, clock, file } = opened;
  const broker = createMemoryBroker();
  const blobs = createBlobStore(path.join(folder.dir, 'site'));
  const sent: string[] = [];
  const center = broker.connect({ clientId: coordinatorId });
  await center.subscribe(createTopics(federation).message(siteId, 'up'), ({ payload }) => {
    const { type } = JSON.parse(Buffer.from(payload).toString('utf8')) as { type: string };
    if (type !== 'hello') sent.push(type);
  });
  const exchange = await createBlobExchange({
    link: center,
    ...{ federation, signer: signerOf(coordinatorId), maySend: () => false, chunkTimeoutMs: 200 },
    keyOf: (peer: string) => signerOf(peer).publicKey,
    blobs: createBlobStore(path.join(folder.dir, 'center')),
  });
  const begin = async () => {
    const link = broker.connect({ clientId: siteId });
    const connection = connectSite({
      ...{ link, federation, signer: signerOf(siteId), name: siteId, version: '1', logger: silentLogger },
      coordinatorPublicKey: signerOf(coordinatorId).publicKey,
      ...{ baseIds: async () => [], store, blobs, policy: () => null },
      ...{ onManifest: () => {}, onUnreadable: () => {}, onReceipt: () => true },
    });
    await connection.open();
    return {
      ...connection,
      async close() {
        await connection.close();
        await link.close();
      },
    };
  };
  for (const pseudonym of people) {
    addImage(store, pseudonym, `image of ${pseudonym}`, {
      split: pseudonym.startsWith('H') ? 'test' : 'train',
    });
    const expiresAt = '2026-12-01';
    recordConsent(store, {
      ...{ pseudonym, purpose, documentVersion: '1', validFrom: '2026-01-01', expiresAt, recordedBy: 'desk' },
    });
  }
  addRun(store, 'run');
  const config = defaultRunConfig({ baseId: 'base', baseSha256: sha256('base'), classes: ['a'] });
  const update = { sha256: await blobs.put(updateBytes), sizeBytes: updateBytes.length };
  const fill = ({ ports }: Awaited<ReturnType<typeof begin>>) => {
    const cohort = freezeCohort(store, { runId: 'run', round: 0, purpose });
    const result = { meanLoss: 1, steps: 1, examples: 2, imagesPerSecond: 1, wallMs: 1, events: [] };
    recordAnnouncement(
      store,
      ports,
      {
        runId: 'run',
        siteId,
        round: 0,
        config,
        plan: getStrategy(config.strategy).configureTrain(config, 0),
      },
      {
        ...{ cohort, result, held: { [Symbol.dispose]() {} } },
        update: { ...update, values: 1, start: null, memory: null, clipped: null },
      },
    );
    store.transaction(() => {
      const images = heldOutImages(store, { purpose, at: store.clock.latest() });
      expect(recordEvaluationCohort(store, { runId: 'run', stateSha256, purpose }, images)).toBe(true);
      ports.enqueue({ type: 'evaluation', body: { runId: 'run', stateSha256, correct: 0, total: 0 } });
    });
  };
  let site = await begin();
  return {
    store,
    clock,
    file,
    broker,
    sent,
    fill: () => fill(site),
    flush: () => site.ports.flush(),
    stop: () => site.close(),
    async start() {
      site = await begin();
    },
    /** Whether the coordinator gets the update. */
    async fetches(): Promise<boolean> {
      try {
        await exchange.fetch({ ...update, chunkBytes }, siteId, { giveUpMs: 3_000 });
        return true;
      } catch {
        return false;
      }
    },
    async [Symbol.asyncDispose]() {
      await site.close();
      await exchange.close();
      await center.close();
      for (const one of [opened, folder]) one[Symbol.dispose]();
    },
  };
}
type World = Awaited<ReturnType<typeof openWorld>>;

const list = { validFrom: null, expiresAt: null, documentVersion: null };
/** Each ends the consent of one who trains and of one who is held out. */
const writers: [string, (world: World) => unknown][] = [
  [
    'a withdrawal',
    ({ store }) => each((pseudonym) => withdrawConsent(store, { pseudonym, recordedBy: 'desk' })),
  ],
  [
    'a withdrawal from this purpose',
    ({ store }) => each((pseudonym) => withdrawConsent(store, { pseudonym, purpose, recordedBy: 'desk' })),
  ],
  [
    'a list with a withdrawal',
    ({ store }) =>
      each((pseudonym) =>
        applyConsentRecord(
          store,
          { pseudonym, kind: 'withdrawn', purpose: '*', ...list },
          { recordedBy: 'list' },
        ),
      ),
  ],
  [
    'a consent of a shorter term',
    ({ store }) =>
      each((pseudonym) =>
        recordConsent(store, {
          ...{ pseudonym, purpose, documentVersion: '2', validFrom: '2026-02-01', expiresAt: '2026-03-01' },
          recordedBy: 'desk',
        }),
      ),
  ],
  [
    'an erasure',
    ({ store }) => each((pseudonym) => void eraseSubject(store, store.subjects.byPseudonym(pseudonym)!.id)),
  ],
  [
    'a correction to somebody without consent',
    ({ store }) => {
      store.subjects.upsert({ pseudonym: 'nobody' });
      each((pseudonym) =>
        correctImages(
          store,
          {
            pseudonym,
            reason: 'typing-error',
            subject: 'nobody',
            confirmed: correctionQuestionSchema.options,
          } as Parameters<typeof correctImages>[1],
          { classes: ['a'], purpose, actor: 'anna' },
        ),
      );
    },
  ],
  ['the end of a term', ({ clock }) => clock.now.setUTCFullYear(2027)],
  ['a clock that ran back', ({ clock }) => clock.now.setUTCMonth(9)],
  [
    'a consent that was changed in the file',
    ({ file }) => {
      const db = openSqlite(file);
      db.exec(
        "DROP TRIGGER consent_events_no_update; UPDATE consent_events SET expires_at = '2030-01-01T00:00:00.000Z'",
      );
      db.close();
    },
  ],
];
function each(work: (pseudonym: string) => unknown): void {
  for (const pseudonym of ['P1', 'H1']) work(pseudonym);
}

const moments: [string, (world: World, write: () => void) => Promise<void>][] = [
  [
    'while the site is not running',
    async (world, write) => {
      world.broker.stop();
      world.fill();
      await world.stop();
      write();
      world.broker.start();
      await world.start();
    },
  ],
  [
    'while the site is offline',
    async (world, write) => {
      world.broker.stop();
      world.fill();
      write();
      world.broker.start();
    },
  ],
  [
    'between the turn of the relay and that of the link',
    async (world, write) => {
      world.fill();
      world.flush();
      write();
    },
  ],
  [
    'after it was sent once and was not answered',
    async (world, write) => {
      world.fill();
      world.flush();
      await pause();
      expect(world.sent).toContain('announce');
      write();
      world.sent.splice(0);
      world.flush();
    },
  ],
];

describe.each(moments)('%s', (_moment, at) => {
  test.each(writers)('%s keeps back what was made with it', async (_what, write) => {
    await using world = await openWorld();

    await at(world, () => write(world));
    await pause();
    world.flush();
    await pause();

    expect(world.sent.filter((type) => type === 'announce' || type === 'evaluation')).toEqual([]);
    expect(await world.fetches()).toBe(false);
  });

  test('nothing is kept back where nothing has changed', async () => {
    await using world = await openWorld();

    await at(world, () => withdrawConsent(world.store, { pseudonym: 'nobody else', ...addStranger(world) }));
    await pause();
    world.flush();
    await pause();

    expect(world.sent).toEqual(expect.arrayContaining(['announce', 'evaluation']));
    expect(await world.fetches()).toBe(true);
  });
});

/** Somebody who is in no cohort withdraws. */
function addStranger({ store }: World) {
  store.subjects.upsert({ pseudonym: 'nobody else' });
  return { recordedBy: 'desk' };
}

test('a transfer that has begun ends when a consent does', async () => {
  await using world = await openWorld();
  world.fill();
  world.flush();
  await pause();
  withdrawConsent(world.store, { pseudonym: 'P2', recordedBy: 'desk' });

  expect(await world.fetches()).toBe(false);
});
