/** Who is here: presence and signs of life, over a real coordinator's connection. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createAttendance } from '../../core/coordinator/attendance.ts';
import { connectCoordinator } from '../../core/coordinator/connection.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { connectSite } from '../../core/site/connection.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { sealEnvelope } from '../../core/transport/envelope.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { createPresence } from '../../core/transport/presence.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import { signerOf } from '../contract/test-brokers.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

const federation = 'test';
const signOfLifeMs = 400;
const siteId = 'site-a';
const hello = { name: siteId, version: '1', baseIds: [] };

async function openCenter() {
  const broker = createMemoryBroker();
  const [center, site] = [openTestStore(), openTestStore()];
  const folder = temporaryFolder();
  const { publicKey } = signerOf(siteId);
  center.store.sites.upsert({ id: siteId, name: siteId, publicKey, certificateSerial: 'x' });
  const changes: boolean[] = [];
  const common = { federation, logger: silentLogger, version: '1' };
  const centerLink = broker.connect({ clientId: coordinatorId });
  const connection = connectCoordinator({
    ...{ ...common, link: centerLink, coordinatorName: 'Test', signer: signerOf(coordinatorId) },
    ...{ store: center.store, blobs: createBlobStore(path.join(folder.dir, 'center')), onProgress: () => {} },
    signOfLifeMs,
  });
  await connection.open({
    received: async () => true,
    withdrawn: async () => {},
    sitesChanged: () => void changes.push(isOnline()),
    dismissed: () => {},
    connected: () => {},
    stateDamaged: () => {},
    bytesServed: () => {},
    bytesReceived: () => {},
    offers: () => false,
    manifest: () => null,
  });
  const isOnline = () => connection.ports.onlineSites().includes(siteId);
  const presence = createPresence(federation, signerOf(siteId));
  const link = broker.connect({ clientId: siteId, will: presence.will });
  const honest = (helloEveryMs: number) =>
    connectSite({
      ...{ ...common, link, signer: signerOf(siteId), name: siteId, baseIds: async () => [] },
      coordinatorPublicKey: signerOf(coordinatorId).publicKey,
      ...{ store: site.store, blobs: createBlobStore(path.join(folder.dir, 'site')), helloEveryMs },
      ...{ policy: () => null, onManifest: () => {}, onUnreadable: () => {}, onReceipt: () => true },
    });
  return {
    connection,
    changes,
    isOnline,
    presence,
    link,
    centerLink,
    honest,
    say: (type: string, body: unknown, at = new Date()) =>
      link.publish(
        createTopics(federation).message(siteId, 'up'),
        sealEnvelope({ federation, recipient: coordinatorId, type, body, at }, signerOf(siteId)),
      ),
    async [Symbol.asyncDispose]() {
      await connection.close();
      for (const opened of [center, site, folder]) opened[Symbol.dispose]();
    },
  };
}

const becomes = (probe: () => boolean, value: boolean) =>
  vi.waitFor(() => expect(probe()).toBe(value), { timeout: 3_000, interval: 20 });

describe('a site is online', () => {
  test('while it is connected and renews its hello', async () => {
    await using center = await openCenter();
    center.presence.attach(center.link);
    const site = center.honest(signOfLifeMs / 4);
    await site.open();

    await becomes(center.isOnline, true);
    await sleep(3 * signOfLifeMs);

    expect(center.isOnline()).toBe(true);
    expect(center.connection.ports.offlineForMs(siteId)).toBe(0);
    await site.close();
  });

  test('not with a hello alone: who never says that it is connected holds nobody up', async () => {
    await using center = await openCenter();

    await center.say('hello', hello);
    await sleep(50);

    expect(center.isOnline()).toBe(false);
    expect(center.connection.ports.offlineForMs(siteId)).toBeGreaterThan(0);
  });

  test('not with presence alone, which the broker may have kept for days', async () => {
    await using center = await openCenter();

    center.presence.attach(center.link);
    await sleep(50);

    expect(center.isOnline()).toBe(false);
  });

  test('no longer than its sign of life holds, when it says no more but its connection stands', async () => {
    await using center = await openCenter();
    center.presence.attach(center.link);
    await center.say('hello', hello);
    await becomes(center.isOnline, true);

    await becomes(center.isOnline, false);

    expect(center.changes).toEqual([true, false]);
    const offlineForMs = center.connection.ports.offlineForMs(siteId);
    expect(offlineForMs).toBeGreaterThanOrEqual(0);
    expect(offlineForMs).toBeLessThan(signOfLifeMs);
  });

  test('again with any message of today, but not with one of days ago', async () => {
    await using center = await openCenter();
    center.presence.attach(center.link);
    const progress = { runId: 'run', round: 0, step: 1, steps: 2, loss: 1 };

    await center.say('progress', progress, new Date(Date.now() - 3 * 24 * 3_600_000));
    await sleep(50);
    const afterOld = center.isOnline();
    await center.say('progress', progress);

    expect(afterOld).toBe(false);
    await becomes(center.isOnline, true);
  });

  test('not when its connection is lost, whatever it said a moment ago', async () => {
    await using center = await openCenter();
    center.presence.attach(center.link);
    await center.say('hello', hello);
    await becomes(center.isOnline, true);

    await center.presence.leave();

    await becomes(center.isOnline, false);
  });
});

describe('what is no silence of a site', () => {
  afterEach(() => void vi.useRealTimers());
  const open = (isListening: () => boolean) => {
    const touched: string[] = [];
    const sites = { touchLastSeen: (id: string) => void touched.push(id) };
    const attendance = createAttendance({ sites, signOfLifeMs: 9_000, isListening, onChange: () => {} });
    attendance.present(siteId, true);
    attendance.alive(siteId);
    return attendance;
  };

  test('a connection of the coordinator that is down', () => {
    vi.useFakeTimers();
    let isListening = false;
    const attendance = open(() => isListening);

    vi.advanceTimersByTime(60_000);
    const whileDown = attendance.online();
    isListening = true;
    vi.advanceTimersByTime(20_000);

    expect(whileDown).toEqual([siteId]);
    expect(attendance.online()).toEqual([]);
    attendance.close();
  });

  test('a coordinator that stood still', () => {
    vi.useFakeTimers();
    const attendance = open(() => true);

    // A laptop that was closed for an hour: its timers come late, once.
    vi.spyOn(performance, 'now').mockReturnValue(performance.now() + 3_600_000);
    vi.advanceTimersByTime(500);

    expect(attendance.online()).toEqual([siteId]);
    attendance.close();
    vi.restoreAllMocks();
  });
});
