/** Nothing is acknowledged before it is stored, and no refusal that may change is taken as the last word. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { AppError } from '../../core/shared/errors.ts';
import { isSettling } from '../../core/site/site-records.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import type { Store } from '../../core/store/store.ts';
import { createBlobExchange } from '../../core/transport/blob-exchange.ts';
import { createMemoryBroker, type MemoryBroker } from '../../core/transport/memory-link.ts';
import { coordinatorId } from '../../core/transport/topics.ts';
import { signerOf } from '../contract/test-brokers.ts';
import {
  federation,
  insertRun,
  type LoneCoordinator,
  type SpokenSite,
  speakAs,
  startLoneCoordinator,
} from '../fixtures/lone-coordinator.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

const siteId = 'site-a';
let broker: MemoryBroker;
let folder: ReturnType<typeof temporaryFolder>;
let site: SpokenSite;
const opened: AsyncDisposable[] = [];

/** A process that has just been started; every other one has ended. */
function start(wrap?: (store: Store) => Store): LoneCoordinator {
  const coordinator = startLoneCoordinator(broker, folder.dir, [siteId], wrap && { wrap });
  opened.push(coordinator);
  return coordinator;
}

async function end(coordinator: LoneCoordinator): Promise<void> {
  opened.splice(opened.indexOf(coordinator), 1);
  await coordinator[Symbol.asyncDispose]();
}

/** As the agent starts it; waits for the round of run "run". */
async function goOn(coordinator: LoneCoordinator): Promise<void> {
  await coordinator.node.load();
  await coordinator.open();
  await coordinator.node.resume();
  await site.hello();
  const isOpen = () => expect(coordinator.store.rounds.get('run', 0)).not.toBeNull();
  await vi.waitFor(isOpen, { timeout: 10_000 });
}

/** Run "run" with an open round, whose coordinator has ended. */
async function leaveOpenRound(): Promise<string> {
  const coordinator = start();
  await insertRun(coordinator, 'run');
  await goOn(coordinator);
  const round = coordinator.store.rounds.get('run', 0)!;
  await end(coordinator);
  return round.startSha256;
}

beforeEach(async () => {
  broker = createMemoryBroker();
  folder = temporaryFolder();
  site = await speakAs(broker, siteId);
});
afterEach(async () => {
  for (const each of opened.splice(0)) await each[Symbol.asyncDispose]();
  await site[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
});

const evaluationOf = (stateSha256: string) => ({ runId: 'run', stateSha256, correct: 0, total: 0 });
const announcement = (round: number, runId = 'run') => ({
  ...{ runId, round, examples: 5, meanLoss: 1, steps: 1 },
  update: { sha256: 'e'.repeat(64), sizeBytes: 5, chunkBytes: 262_144 },
});
const acknowledged = () =>
  site.heard.filter(({ type }) => type === 'ack').map(({ body }) => body['messageId']);
const receipts = () => site.heard.filter(({ type }) => type === 'receipt').map(({ body }) => body);
/** Whatever was on its way has come by then: the coordinator's answer to a later message did. */
async function afterAnAnswer(): Promise<void> {
  const before = site.heard.filter(({ type }) => type === 'welcome').length;
  await site.hello();
  await vi.waitFor(() =>
    expect(site.heard.filter(({ type }) => type === 'welcome').length).toBeGreaterThan(before),
  );
}

describe('a coordinator that is listened to before its run goes on', () => {
  test('answers nothing about the run, and takes the same messages afterwards', async () => {
    const state = await leaveOpenRound();
    const coordinator = start();
    await coordinator.open();
    const [evaluation, decline] = [randomUUID(), randomUUID()];
    const declined = { runId: 'run', round: 0, reason: 'paused' };

    await site.say('evaluation', evaluationOf(state), evaluation);
    await site.say('declined', declined, decline);
    await site.say('announce', announcement(0));
    await afterAnAnswer();
    expect([acknowledged(), receipts()]).toEqual([[], []]);

    await coordinator.node.load();
    await coordinator.node.resume();
    await site.say('evaluation', evaluationOf(state), evaluation);
    await site.say('declined', declined, decline);
    await vi.waitFor(() => expect(acknowledged()).toEqual([evaluation, decline]));
    expect(coordinator.store.evaluations.ofState('run', state)).toHaveLength(1);
    expect(coordinator.store.roundSites.get('run', 0, siteId)).toMatchObject({ status: 'absent' });
  });

  test('does not say of a state that it has none', async () => {
    const sha256 = await leaveOpenRound();
    const coordinator = start();
    await coordinator.open();
    const exchange = await createBlobExchange({
      ...{ link: site.link, federation, signer: signerOf(siteId), maySend: () => false },
      keyOf: (peer) => (peer === coordinatorId ? signerOf(coordinatorId).publicKey : null),
      ...{ blobs: createBlobStore(`${folder.dir}/site`), chunkTimeoutMs: 100 },
    });
    const sizeBytes = coordinator.blobs.sizeBytes(sha256);

    const fetching = exchange.fetch({ sha256, sizeBytes, chunkBytes: 262_144 }, coordinatorId);
    fetching.catch(() => {});
    await afterAnAnswer();
    await sleep(150);
    await coordinator.node.load();

    await expect(fetching).resolves.toMatchObject({ bytesReceived: sizeBytes });
    await exchange.close();
  });
});

describe('what could not be stored', () => {
  test.each(['evaluation', 'declined'] as const)(
    'a message "%s" is not acknowledged, and taken when it comes again',
    async (type) => {
      const state = await leaveOpenRound();
      let isFull = false;
      const coordinator = start((store) => ({
        ...store,
        transaction(work) {
          if (isFull) throw new AppError('DISK_FULL', 'full');
          return store.transaction(work);
        },
      }));
      await coordinator.node.load();
      await coordinator.open();
      await coordinator.node.resume();
      const body = type === 'evaluation' ? evaluationOf(state) : { runId: 'run', round: 0, reason: 'paused' };
      const id = randomUUID();
      const isStored = () =>
        type === 'evaluation'
          ? coordinator.store.evaluations.ofState('run', state).length === 1
          : coordinator.store.roundSites.get('run', 0, siteId)?.status === 'absent';

      isFull = true;
      await site.say(type, body, id);
      await afterAnAnswer();
      expect([acknowledged(), isStored()]).toEqual([[], false]);

      // The run waits for somebody who makes space, and says so.
      isFull = false;
      await coordinator.node.resumeRun('run');
      await vi.waitFor(
        async () => {
          await site.say(type, body, id);
          expect(acknowledged()).toContain(id);
        },
        { timeout: 30_000, interval: 200 },
      );
      expect(isStored()).toBe(true);
    },
    60_000,
  );

  test('a message that comes while the coordinator ends is not acknowledged', async () => {
    const state = await leaveOpenRound();
    const coordinator = start();
    await goOn(coordinator);

    await coordinator.node.close();
    await site.say('evaluation', evaluationOf(state));
    await afterAnAnswer();

    expect(acknowledged()).toEqual([]);
    expect(coordinator.store.evaluations.ofState('run', state)).toEqual([]);
  });
});

describe('a refusal', () => {
  test('of a round that is to come, or of a run that nobody knows, is not the last word; of one that is over it is', async () => {
    const coordinator = start();
    await insertRun(coordinator, 'old');
    coordinator.store.runs.update('old', { status: 'stopped', finishedAt: '2026-11-22T12:00:00.000Z' });
    await insertRun(coordinator, 'run');
    await goOn(coordinator);

    await site.say('announce', announcement(1));
    await site.say('announce', announcement(0, 'unknown'));
    await site.say('announce', announcement(0, 'old'));

    await vi.waitFor(() => expect(receipts()).toHaveLength(3));
    expect(receipts().map(({ runId, kind }) => [runId, kind])).toEqual([
      ['run', 'later'],
      ['unknown', 'later'],
      ['old', 'final'],
    ]);
  });

  test('an update that counted in a run before the newest is not said to be refused', async () => {
    const coordinator = start();
    await insertRun(coordinator, 'old');
    const { update } = announcement(0, 'old');
    coordinator.store.rounds.insert({
      ...{
        runId: 'old',
        round: 0,
        stage: 'baseline',
        rank: 1,
        trainableParameters: 1,
        startSha256: update.sha256,
      },
    });
    coordinator.store.roundSites.upsert({
      ...{ runId: 'old', round: 0, siteId: 'site-a', status: 'received', updateSha256: update.sha256 },
    });
    coordinator.store.runs.update('old', { status: 'finished', finishedAt: '2026-11-22T12:00:00.000Z' });
    await insertRun(coordinator, 'run');
    await goOn(coordinator);

    await site.say('announce', announcement(0, 'old'));

    await vi.waitFor(() => expect(receipts()).toHaveLength(1));
    expect(receipts()).toMatchObject([{ runId: 'old', accepted: true, updateSha256: update.sha256 }]);
  });

  test('"not now" is the last word on a run that another one has taken the place of', () => {
    using own = openTestStore();
    for (const id of ['over', 'run']) own.store.runs.insert({ id, config: {}, status: 'running', round: 1 });
    const later = { runId: 'over', round: 1, accepted: false, kind: 'later' as const };
    const over = { status: 'stopped', finishedAt: '2026-11-22T12:00:00.000Z' } as const;

    const whileBothAreOpen = isSettling(own.store, later);
    own.store.runs.update('over', over);
    const whileAnotherRuns = isSettling(own.store, later);
    own.store.runs.update('run', over);

    expect([whileBothAreOpen, whileAnotherRuns, isSettling(own.store, later)]).toEqual([false, true, false]);
  });

  test.each([
    ['accepted', { accepted: true }, true],
    ['refused for good', { accepted: false, kind: 'final' as const }, true],
    ['refused for now', { accepted: false, kind: 'later' as const }, false],
    ['refused by an older coordinator while the round is on', { accepted: false }, false],
    ['refused by an older coordinator in a round that is over here', { accepted: false, round: 0 }, true],
    ['refused by an older coordinator in a run that is over here', { accepted: false, runId: 'over' }, true],
    ['refused by an older coordinator in a run that is unknown here', { accepted: false, runId: 'x' }, false],
  ])('%s: the site announces its update no more: %#', (_, receipt, isSettled) => {
    using own = openTestStore();
    for (const id of ['run', 'over']) own.store.runs.insert({ id, config: {}, status: 'running', round: 1 });
    own.store.runs.update('over', { status: 'stopped', finishedAt: '2026-11-22T12:00:00.000Z' });

    expect(isSettling(own.store, { runId: 'run', round: 1, ...receipt })).toBe(isSettled);
  });
});
