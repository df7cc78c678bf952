/** What a full disk must not break: the order in which a withdrawal gets its room, manifests, and looks at the clock. */
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { AppError } from '../../core/shared/errors.ts';
import { canonicalJson } from '../../core/shared/hash.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { createAlarms } from '../../core/site/alarms.ts';
import { connectSite } from '../../core/site/connection.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import { sealEnvelope } from '../../core/transport/envelope.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { type ManifestBody, writtenManifest } from '../../core/transport/messages.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import { federation, signerOf } from '../contract/test-brokers.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

const full = () => new AppError('DISK_FULL', 'The disk is full.');

describe('work that must not fail for want of room', () => {
  function openWorld(hasReserve: boolean) {
    const folder = temporaryFolder();
    const log: string[] = [];
    const reserve = {
      release() {
        log.push('room was given away');
        return hasReserve;
      },
    };
    const store = openStore(path.join(folder.dir, 'anneal.db'), { reserve });
    store.onShortage((isShort) => void log.push(isShort ? 'training stopped' : 'training may go on'));
    /** Meets a full disk so many times. */
    const work = (times: number) => {
      let left = times;
      return () => {
        log.push('tried');
        if (left-- > 0) throw full();
        return 'done';
      };
    };
    return {
      ...{ store, log, work },
      [Symbol.dispose]() {
        store.close();
        folder[Symbol.dispose]();
      },
    };
  }

  test('stops training first, then has the reserve, then is tried again', () => {
    using world = openWorld(true);

    expect(world.store.withReserve(world.work(1))).toBe('done');

    const steps = ['tried', 'training stopped', 'room was given away', 'tried', 'training may go on'];
    expect(world.log).toEqual(steps);
  });

  test('leaves training stopped while the room that is left would not do for the next one', () => {
    using folder = temporaryFolder();
    const reserve = { isSafe: false, release: () => true };
    const store = openStore(path.join(folder.dir, 'anneal.db'), { reserve });
    const heard: boolean[] = [];
    store.onShortage((isShort) => void heard.push(isShort));
    let left = 1;

    store.withReserve(() => {
      if (left-- > 0) throw full();
    });
    store.lookForRoom();

    expect(heard).toEqual([true]);
    const late: boolean[] = [];
    store.onShortage((isShort) => void late.push(isShort));
    expect(late).toEqual([true]);

    reserve.isSafe = true;
    store.lookForRoom();

    expect([heard, late]).toEqual([
      [true, false],
      [true, false],
    ]);
    store.close();
  });

  test('leaves training stopped while it is not written down, and lets it go on once it is', () => {
    using world = openWorld(false);

    expect(() => world.store.withReserve(world.work(1))).toThrow(full());
    world.store.lookForRoom();
    expect(world.log.at(-1)).toBe('room was given away');
    world.store.withReserve(world.work(0));

    expect(world.log).toEqual([
      'tried',
      'training stopped',
      'room was given away',
      'tried',
      'training may go on',
    ]);
  });

  test('is begun again as a whole, not inside a transaction', () => {
    using world = openWorld(true);
    const { store, work } = world;
    const inner = work(1);

    const result = store.withReserve(() => store.transaction(() => store.withReserve(inner)));

    expect(result).toBe('done');
    expect(world.log.filter((step) => step === 'tried')).toHaveLength(2);
  });

  test('keeps the reserve for itself: another error gives nothing away', () => {
    using world = openWorld(true);

    expect(() =>
      world.store.withReserve(() => {
        throw new AppError('CONSENT_INVALID', 'No.');
      }),
    ).toThrow('No.');

    expect(world.log).toEqual([]);
  });
});

/** A store that cannot write settings so many times. */
function withFullDisk(store: Store, times: number): Store {
  let left = times;
  return {
    ...store,
    settings: {
      ...store.settings,
      set(key, value) {
        if (left-- > 0) throw full();
        store.settings.set(key, value);
      },
    },
  };
}

test('a manifest that comes while nothing can be written is taken in when there is room', async () => {
  using folder = temporaryFolder();
  using opened = openTestStore();
  const broker = createMemoryBroker();
  const link = broker.connect({ clientId: 'site-a' });
  const center = broker.connect({ clientId: coordinatorId });
  const received: ManifestBody[] = [];
  const site = connectSite({
    ...{ link, federation, signer: signerOf('site-a'), name: 'A', version: '1', logger: silentLogger },
    coordinatorPublicKey: signerOf(coordinatorId).publicKey,
    ...{ baseIds: async () => [], store: withFullDisk(opened.store, 3), policy: () => null },
    ...{ blobs: createBlobStore(path.join(folder.dir, 'blobs')), retryManifestMs: 20 },
    onManifest: (manifest) => void received.push(manifest),
    ...{ onUnreadable: () => {}, onReceipt: () => true },
  });
  await site.open();
  const config = defaultRunConfig({ baseId: 'base', baseSha256: '0'.repeat(64), classes: ['a', 'b'] });
  const body = manifestOf(config, null, 0, { sha256: '1'.repeat(64), sizeBytes: 1, chunkBytes: 1024 });

  await center.publish(
    createTopics(federation).manifest,
    sealEnvelope({ federation, type: 'manifest', body: writtenManifest(body) }, signerOf(coordinatorId)),
    { retain: true },
  );

  await vi.waitFor(() => expect(received).toHaveLength(1), { timeout: 5_000, interval: 20 });
  expect(canonicalJson(received[0])).toBe(canonicalJson(body));
  await site.close();
});

test('a look at the clock that cannot be written down ends nothing, and finds what is over all the same', async () => {
  using opened = openTestStore();
  const { store, clock } = opened;
  const errors: unknown[] = [];
  let consents = 0;
  const { id } = store.subjects.upsert({ pseudonym: 'P1' });
  store.consentEvents.append({
    ...{ subjectId: id, kind: 'grant', purpose: 'p', documentVersion: '1', recordedBy: 'desk' },
    ...{ validFrom: '2026-01-01T00:00:00.000Z', expiresAt: '2027-01-01T00:00:00.000Z' },
  });
  const blocked: Store = {
    ...store,
    clock: {
      ...store.clock,
      remember() {
        throw full();
      },
    },
  };
  const alarms = createAlarms(blocked, {
    onConsent: () => {
      consents += 1;
    },
    onQuietHours: () => {},
    onClock: () => {},
    onError: (error) => void errors.push(error),
    everyMs: 10,
  });
  alarms.watchConsent('p');

  clock.now.setUTCFullYear(2028);

  await expect.poll(() => consents, { timeout: 5_000, interval: 10 }).toBe(1);
  expect(errors.length).toBeGreaterThan(0);
  alarms.close();
});
