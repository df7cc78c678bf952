/**
 * Where each side stands: wrong clocks, stores that went back in time, copies. Coordinator, sites, stores and messages are real;
 * the broker is in memory.
 */
import { randomUUID } from 'node:crypto';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { confirmRestored, markRestored, restoredNote } from '../../core/store/restored.ts';
import { sealEnvelope } from '../../core/transport/envelope.ts';
import { createMemoryBroker, type MemoryBroker } from '../../core/transport/memory-link.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import { signerOf } from '../contract/test-brokers.ts';
import {
  type ConnectedSite,
  type ConnectedSiteOptions,
  startConnectedSite,
} from '../fixtures/connected-site.ts';
import {
  federation,
  insertRun,
  type LoneCoordinator,
  speakAs,
  startLoneCoordinator,
} from '../fixtures/lone-coordinator.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const dayMs = 24 * 3_600_000;
const siteIds = ['site-a', 'site-b', 'site-c'];
const ahead = (ms: number) => () => new Date(Date.now() + ms);
const waits = { timeout: 10_000, interval: 20 };

let broker: MemoryBroker;
let folder: ReturnType<typeof temporaryFolder>;
const opened: AsyncDisposable[] = [];
const at = (name: string) => path.join(folder.dir, name);

function use<T extends AsyncDisposable>(made: T): T {
  opened.push(made);
  return made;
}

async function end(each: AsyncDisposable): Promise<void> {
  opened.splice(opened.indexOf(each), 1);
  await each[Symbol.asyncDispose]();
}

async function startCoordinator(now?: () => Date): Promise<LoneCoordinator> {
  const coordinator = use(startLoneCoordinator(broker, at('coordinator'), siteIds, now && { now }));
  if (coordinator.store.runs.list().length === 0)
    await insertRun(coordinator, 'run', { quorum: 1, rounds: 3 });
  await coordinator.node.load();
  await coordinator.open();
  await coordinator.node.resume();
  return coordinator;
}

const startSite = async (siteId: string, options?: ConnectedSiteOptions, dir = siteId) =>
  use(await startConnectedSite(broker, at(dir), siteId, options));

/** Ends what uses a folder, puts it back as it was, and leaves it for the next start. */
function putBack(name: string): void {
  rmSync(at(name), { recursive: true });
  cpSync(at(`${name} then`), at(name), { recursive: true });
}
const keep = (name: string) => cpSync(at(name), at(`${name} then`), { recursive: true });

const rowOf = async ({ node }: LoneCoordinator, siteId: string) =>
  (await node.overview()).sites.find(({ id }) => id === siteId)!;

/** Counts of a site without held-out images: no consent stands behind them. */
const countsFor = ({ store }: LoneCoordinator) => ({
  type: 'evaluation' as const,
  body: { runId: 'run', stateSha256: store.rounds.get('run', 0)!.startSha256, correct: 0, total: 0 },
});
const countedBy = ({ store }: LoneCoordinator) => store.evaluations.ofRun('run').map(({ siteId }) => siteId);

beforeEach(() => {
  broker = createMemoryBroker();
  folder = temporaryFolder();
  for (const name of ['coordinator', ...siteIds]) mkdirSync(at(name));
});
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

describe('clocks', () => {
  test.each([-400, -2, 2, 400])('a site %d days off takes part from the first message on', async (days) => {
    const coordinator = await startCoordinator();
    const site = await startSite('site-a', { now: ahead(days * dayMs) });
    await vi.waitFor(async () => {
      expect((await rowOf(coordinator, 'site-a')).online).toBe(true);
      expect(site.manifests.at(-1)).toMatchObject({ phase: 'train', round: 0 });
    }, waits);

    site.connection.ports.enqueue({ type: 'declined', body: { runId: 'run', round: 0, reason: 'busy' } });
    site.connection.ports.flush();

    await vi.waitFor(() => {
      expect(coordinator.store.roundSites.get('run', 0, 'site-a')).toMatchObject({ status: 'absent' });
      expect(site.store.outbox.pending()).toEqual([]);
    }, waits);
  });

  test.each([2, -2])(
    'a clock %d days off is named on both sides, and goes when it is right',
    async (days) => {
      let offset = days * dayMs;
      const coordinator = await startCoordinator();
      const site = await startSite('site-a', { now: () => new Date(Date.now() + offset) });
      await vi.waitFor(async () => {
        expect(site.codes()).toEqual(['CLOCK_DIFFERS']);
        expect((await rowOf(coordinator, 'site-a')).concerns).toHaveLength(1);
      }, waits);
      const [said] = site.connection.standing.concerns();
      const { concerns, clock } = await rowOf(coordinator, 'site-a');
      offset = 0;
      site.connection.greet();
      await vi.waitFor(async () => {
        expect(site.codes()).toEqual([]);
        expect((await rowOf(coordinator, 'site-a')).concerns).toEqual([]);
      }, waits);

      const words = days > 0 ? '2 days ahead of' : '2 days behind';
      expect(said!.message).toContain(words);
      expect(concerns[0]).toContain(words);
      expect(Math.abs(clock!.aheadMs - days * dayMs)).toBeLessThanOrEqual(clock!.withinMs + 5_000);
    },
  );

  test('a coordinator that is an hour ahead is named by its sites, and heard at once when it is right again', async () => {
    let offset = 3_600_000;
    const clock = () => new Date(Date.now() + offset);
    const coordinator = await startCoordinator(clock);
    const sites: ConnectedSite[] = [];
    for (const siteId of siteIds) sites.push(await startSite(siteId, { helloEveryMs: 400 }));
    await vi.waitFor(() => {
      expect(coordinator.standing.ownClock()?.message).toContain('1 hour ahead of');
      for (const site of sites)
        expect(site.connection.standing.concerns()[0]?.message).toContain(
          "it is the coordinator's that is wrong",
        );
    }, waits);
    const before = sites.map(({ manifests }) => manifests.length);

    offset = 0;
    await coordinator.node.pauseRun('run');

    await vi.waitFor(() => {
      for (const [index, { manifests }] of sites.entries()) {
        expect(manifests.length).toBeGreaterThan(before[index]!);
        expect(manifests.at(-1)!.paused).not.toBeNull();
      }
      expect(coordinator.standing.ownClock()).toBeNull();
    }, waits);
  });

  test('with one of three clocks wrong, it is that one', async () => {
    const coordinator = await startCoordinator();
    const [wrong] = [
      await startSite('site-a', { now: ahead(-dayMs), helloEveryMs: 400 }),
      await startSite('site-b', { helloEveryMs: 400 }),
      await startSite('site-c', { helloEveryMs: 400 }),
    ];
    await vi.waitFor(async () => {
      expect(wrong!.connection.standing.concerns()[0]?.message).toContain(
        'Other sites agree with the coordinator',
      );
      expect((await rowOf(coordinator, 'site-a')).concerns[0]).toContain('ask this site');
      expect(coordinator.standing.ownClock()).toBeNull();
    }, waits);
  });

  test('an old manifest that a broker shows again changes nothing', async () => {
    const coordinator = await startCoordinator();
    const seen: Uint8Array[] = [];
    await broker.connect({ clientId: 'tap' }).subscribe(createTopics(federation).manifest, ({ payload }) => {
      seen.push(payload);
    });
    const site = await startSite('site-a');
    await vi.waitFor(() => expect(site.manifests.at(-1)?.phase).toBe('train'), waits);
    await coordinator.node.pauseRun('run');
    await vi.waitFor(() => expect(site.manifests.at(-1)!.paused).not.toBeNull(), waits);
    const count = site.manifests.length;

    for (const payload of seen.slice(0, -1))
      await broker.connect({ clientId: randomUUID() }).publish(createTopics(federation).manifest, payload);
    await coordinator.node.resumeRun('run');

    await vi.waitFor(() => expect(site.manifests.length).toBeGreaterThan(count), waits);
    expect(site.manifests.slice(count).every(({ paused }) => paused === null)).toBe(true);
  });
});

describe('a site whose store went back in time', () => {
  /** It has said hello, recorded something, and said hello again. @returns rows that it recorded after the copy */
  async function leaveCopied(coordinator: LoneCoordinator): Promise<number> {
    const site = await startSite('site-a');
    await vi.waitFor(() => expect(coordinator.store.peers.current('site-a')).not.toBeNull(), waits);
    site.store.audit.append({ actor: 'test', action: 'recorded-before', details: {} });
    await end(site);
    keep('site-a');
    const later = await startSite('site-a');
    for (let i = 0; i < 3; i++)
      later.store.audit.append({ actor: 'test', action: 'recorded-after', details: { i } });
    const before = coordinator.store.peers.current('site-a')!.counter;
    later.connection.greet();
    await vi.waitFor(
      () => expect(coordinator.store.peers.current('site-a')!.counter).toBeGreaterThan(before + 1),
      waits,
    );
    await end(later);
    putBack('site-a');
    return 3;
  }

  test('stops, says what is missing, and announces nothing until somebody has confirmed it', async () => {
    const coordinator = await startCoordinator();
    const lost = await leaveCopied(coordinator);

    const site = await startSite('site-a');
    site.connection.ports.enqueue(countsFor(coordinator));
    site.connection.ports.flush();
    await vi.waitFor(async () => {
      expect(site.restored).toBe(1);
      expect((await rowOf(coordinator, 'site-a')).concerns[0]).toContain('earlier state');
    }, waits);
    const note = restoredNote(site.store);
    const heldBack = countedBy(coordinator);
    confirmRestored(site.store, 'approver');
    site.connection.greet();
    site.connection.ports.flush();

    await vi.waitFor(async () => {
      expect((await rowOf(coordinator, 'site-a')).online).toBe(true);
      expect(countedBy(coordinator)).toEqual(['site-a']);
      expect((await rowOf(coordinator, 'site-a')).concerns).toEqual([]);
    }, waits);
    expect(note).toMatchObject({ how: 'copy', missing: lost });
    expect(heldBack).toEqual([]);
    expect(site.restored).toBe(1);
  });

  test('stays stopped over restarts, and a second copy of the same backup is noticed again', async () => {
    const coordinator = await startCoordinator();
    await leaveCopied(coordinator);
    const first = await startSite('site-a');
    await vi.waitFor(() => expect(restoredNote(first.store)).not.toBeNull(), waits);
    await end(first);
    const again = await startSite('site-a');
    const kept = restoredNote(again.store);
    confirmRestored(again.store, 'approver');
    again.connection.greet();
    const { epoch } = again.store.position.get();
    await vi.waitFor(() => expect(coordinator.store.peers.current('site-a')?.epoch).toBe(epoch), waits);
    await end(again);
    putBack('site-a');
    const second = await startSite('site-a');

    await vi.waitFor(() => expect(restoredNote(second.store)).not.toBeNull(), waits);
    expect(kept).not.toBeNull();
  });

  test('a restart without anything lost stops nobody', async () => {
    const coordinator = await startCoordinator();
    for (let i = 0; i < 4; i++) {
      const site = await startSite('site-a');
      await vi.waitFor(() => expect(site.codes()).toEqual([]), waits);
      const { instance } = { instance: coordinator.store.peers.current('site-a')?.counter ?? 0 };
      site.connection.greet();
      await vi.waitFor(
        () => expect(coordinator.store.peers.current('site-a')!.counter).toBeGreaterThan(instance),
        waits,
      );
      await end(site);
      expect(restoredNote((await startStore('site-a')).store)).toBeNull();
    }
  });

  test('a coordinator can make no site believe that it went back', async () => {
    const coordinator = await startCoordinator();
    const site = await startSite('site-a');
    await vi.waitFor(() => expect(coordinator.store.peers.current('site-a')).not.toBeNull(), waits);
    const [known] = coordinator.store.peers.statements('site-a', 1) as { position: { counter: number } }[];
    coordinator.store.peers.keepStatement('site-a', randomUUID(), 1_000_000, {
      ...known!,
      position: { ...known!.position, counter: 1_000_000 },
    });
    const before = coordinator.store.peers.current('site-a')!.counter;
    site.connection.greet();
    await vi.waitFor(
      () => expect(coordinator.store.peers.current('site-a')!.counter).toBeGreaterThan(before),
      waits,
    );
    site.connection.greet();
    await vi.waitFor(
      () => expect(coordinator.store.peers.current('site-a')!.counter).toBeGreaterThan(before + 1),
      waits,
    );
    expect(site.restored).toBe(0);
    expect(restoredNote(site.store)).toBeNull();
  });
});

/** The store alone, for a look. */
async function startStore(name: string) {
  const { openStore } = await import('../../core/store/store.ts');
  const store = openStore(path.join(at(name), 'anneal.db'));
  return use({
    store,
    async [Symbol.asyncDispose]() {
      store.close();
    },
  });
}

describe('a coordinator whose store went back in time', () => {
  test.each(['copied back', 'restored by Anneal'])(
    '%s: its sites show it, and it is heard again',
    async (how) => {
      const first = await startCoordinator();
      const site = await startSite('site-a', { helloEveryMs: 400 });
      await vi.waitFor(() => expect(site.manifests.at(-1)?.phase).toBe('train'), waits);
      await end(first);
      keep('coordinator');
      const later = await startCoordinator();
      await later.node.pauseRun('run');
      await vi.waitFor(() => expect(site.manifests.at(-1)!.paused).not.toBeNull(), waits);
      await later.node.resumeRun('run');
      await vi.waitFor(() => expect(site.manifests.at(-1)!.paused).toBeNull(), waits);
      const { epoch } = later.store.position.get();
      await end(later);
      putBack('coordinator');
      if (how !== 'copied back') {
        const { store } = await startStore('coordinator');
        markRestored(store, 'backup');
        await end(opened.at(-1)!);
      }
      const count = site.manifests.length;

      const back = await startCoordinator();

      await vi.waitFor(() => {
        expect(site.codes()).toContain('COORDINATOR_RESTORED');
        expect(site.manifests.length).toBeGreaterThan(count);
        expect(site.returns).toHaveLength(1);
      }, waits);
      expect(back.store.position.get().epoch).not.toBe(epoch);
      expect(restoredNote(back.store)).not.toBeNull();
      expect(site.store.audit.page().map(({ action }) => action)).toContain('coordinator-went-back');
    },
  );

  test('a site that dies before it has dealt with that does so when it is started again', async () => {
    const first = await startCoordinator();
    let met = 0;
    const onReturn = () => {
      met += 1;
      throw new Error('the process dies here');
    };
    const site = await startSite('site-a', { helloEveryMs: 400, onReturn });
    await vi.waitFor(() => expect(site.manifests.at(-1)?.phase).toBe('train'), waits);
    await end(first);
    keep('coordinator');
    const later = await startCoordinator();
    const { epoch } = later.store.position.get();
    await end(later);
    putBack('coordinator');
    const back = await startCoordinator();
    await vi.waitFor(() => expect(back.store.position.get().epoch).not.toBe(epoch), waits);
    await vi.waitFor(() => expect(met).toBe(1), waits);
    await end(site);

    const again = await startSite('site-a');

    await vi.waitFor(() => expect(again.returns).toHaveLength(1), waits);
    await end(again);
    const third = await startSite('site-a');
    await vi.waitFor(() => expect(third.manifests).toHaveLength(1), waits);
    expect(third.returns).toEqual([]);
  });

  test('a site can make no coordinator believe it', async () => {
    const coordinator = await startCoordinator();
    const site = await startSite('site-a');
    await vi.waitFor(() => {
      expect(site.store.peers.current(coordinatorId)).not.toBeNull();
      expect(coordinator.store.peers.current('site-a')).not.toBeNull();
    }, waits);
    const [known] = site.store.peers.statements(coordinatorId, 1) as { position: { counter: number } }[];
    site.store.peers.keepStatement(coordinatorId, randomUUID(), 1_000_000, {
      ...known!,
      position: { ...known!.position, counter: 1_000_000 },
    });
    const { epoch } = coordinator.store.position.get();
    const before = coordinator.store.peers.current('site-a')!.counter;
    site.connection.greet();
    await vi.waitFor(
      () => expect(coordinator.store.peers.current('site-a')!.counter).toBeGreaterThan(before),
      waits,
    );
    expect(coordinator.store.position.get().epoch).toBe(epoch);
    expect(restoredNote(coordinator.store)).toBeNull();
  });
});

describe('two computers with the keys of one site', () => {
  test('are named on both sides; the first goes on, the second waits, and nobody loses anything', async () => {
    const coordinator = await startCoordinator();
    const first = await startSite('site-a', { helloEveryMs: 200 });
    await vi.waitFor(() => expect(coordinator.store.peers.current('site-a')).not.toBeNull(), waits);
    await end(first);
    cpSync(at('site-a'), at('clone'), { recursive: true });
    const original = await startSite('site-a', { helloEveryMs: 200 });
    await vi.waitFor(() => expect(original.manifests).not.toEqual([]), waits);
    const clone = await startSite('site-a', { helloEveryMs: 200 }, 'clone');

    await vi.waitFor(async () => {
      expect(original.codes()[0]).toBe('SITE_CLONED');
      expect(clone.codes()[0]).toBe('SITE_CLONED');
      expect((await rowOf(coordinator, 'site-a')).concerns[0]).toContain('Two computers');
    }, waits);
    expect(original.twins.at(-1)).toBe('other');
    expect(clone.twins.at(-1)).toBe('wait');

    clone.connection.ports.enqueue(countsFor(coordinator));
    clone.connection.ports.flush();
    original.connection.ports.enqueue(countsFor(coordinator));
    original.connection.ports.flush();
    await vi.waitFor(() => expect(original.store.outbox.pending()).toEqual([]), waits);
    expect(countedBy(coordinator)).toEqual(['site-a']);
    expect(clone.store.outbox.pending()).toHaveLength(1);
    expect(restoredNote(original.store)).toBeNull();
  });

  test('a site that is started anew again and again is one', async () => {
    const coordinator = await startCoordinator();
    for (let i = 0; i < 5; i++) {
      const site = await startSite('site-a', { helloEveryMs: 50 });
      await vi.waitFor(() => expect(site.connection.standing.clock).not.toBeNull(), waits);
      expect(site.codes()).toEqual([]);
      await end(site);
    }
    expect((await rowOf(coordinator, 'site-a')).concerns).toEqual([]);
  });
});

test('a site of version 0.1, which says nothing of where it stands, takes part as before', async () => {
  const coordinator = await startCoordinator();
  const site = use(await speakAs(broker, 'site-a'));
  await vi.waitFor(async () => expect((await rowOf(coordinator, 'site-a')).online).toBe(true), waits);
  await site.say('declined', { runId: 'run', round: 0, reason: 'busy' });
  await vi.waitFor(
    () => expect(coordinator.store.roundSites.get('run', 0, 'site-a')?.status).toBe('absent'),
    waits,
  );
  expect((await rowOf(coordinator, 'site-a')).concerns).toEqual([]);
});

test('once a site gives its messages numbers, one without a number is no sign of life of it', async () => {
  const coordinator = await startCoordinator();
  const site = await startSite('site-a');
  await vi.waitFor(() => expect(coordinator.store.peers.current('site-a')).not.toBeNull(), waits);
  await end(site);
  const seal = (type: string, body: unknown) =>
    sealEnvelope({ federation, recipient: coordinatorId, type, body }, signerOf('site-a'));
  const link = broker.connect({ clientId: 'site-a' });
  await link.publish(
    createTopics(federation).message('site-a', 'up'),
    seal('hello', { name: 'forged', version: '1', baseIds: [] }),
  );
  const other = await startSite('site-b');
  await vi.waitFor(() => expect(other.connection.standing.clock).not.toBeNull(), waits);
  expect((await rowOf(coordinator, 'site-a')).online).toBe(false);
});
