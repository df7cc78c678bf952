/** Counts that may not leave any more: they do not wait for ever, and nobody waits for them. Store and site are real. */
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { heldOutImages, recordEvaluationCohort } from '../../core/consent/cohort.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { countsKeptBack, takeBackCounts } from '../../core/site/may-leave.ts';
import type { SiteMessage } from '../../core/site/site-node.ts';
import { openIdleSite } from '../fixtures/idle-site.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { addImage, openTestStore, type TestStore } from '../fixtures/store.ts';

const stateSha256 = '1'.repeat(64);
const config = defaultRunConfig({
  ...{ baseId: 'face-resnet-128', baseSha256: '0'.repeat(64), classes: ['a', 'b'] },
});
const { purpose } = config;
const body = { runId: 'run', stateSha256, correct: 3, total: 6 };

let opened: TestStore;
beforeEach(() => {
  opened = openTestStore();
  const { store } = opened;
  store.runs.insert({ id: 'run', config, status: 'running' });
  for (const pseudonym of ['H1', 'H2']) {
    addImage(store, pseudonym, `image of ${pseudonym}`, { split: 'test', label: 'a' });
    const terms = { purpose, documentVersion: '1', validFrom: '2026-01-01', recordedBy: 'desk' };
    recordConsent(store, { pseudonym, ...terms, expiresAt: '2026-12-01' });
  }
  const images = heldOutImages(store, { purpose, at: store.clock.latest() });
  expect(recordEvaluationCohort(store, { runId: 'run', stateSha256, purpose }, images)).toBe(true);
  const payload = Buffer.from(JSON.stringify({ body }));
  store.outbox.add({ topic: 'up', payload, messageId: randomUUID(), type: 'evaluation' });
});
afterEach(() => opened[Symbol.dispose]());

const waiting = () => opened.store.outbox.pending().map(({ type }) => type);
const withdraw = () => withdrawConsent(opened.store, { pseudonym: 'H1', recordedBy: 'desk' });

test('they leave the outbox when a consent behind them ends, and not before', () => {
  const { store } = opened;
  expect(takeBackCounts(store)).toEqual([]);
  expect(waiting()).toEqual(['evaluation']);

  withdraw();

  expect(takeBackCounts(store)).toEqual([{ runId: 'run', stateSha256 }]);
  expect(waiting()).toEqual([]);
});

test('a clock that ran back is no end: they wait until it is right', () => {
  const { store, clock } = opened;
  store.clock.remember(true);
  clock.now.setUTCDate(clock.now.getUTCDate() - 5);

  expect(takeBackCounts(store)).toEqual([]);
  expect(waiting()).toEqual(['evaluation']);
});

const state = { sha256: stateSha256, sizeBytes: 1, chunkBytes: 1024 };
const keptBack = (sent: readonly SiteMessage[]) =>
  sent.filter((message) => message.type === 'declined' && message.body.reason === countsKeptBack);

test.each([
  ['the last state', config.rounds - 1, { phase: 'evaluate' as const }, 1],
  ['a round that this site was not drawn for', 0, { participants: ['another'] }, 1],
  ['a round that it trains in, whose update is waited for', 0, {}, 0],
])('of %s: the coordinator hears it', async (_, round, asked, times) => {
  await using idle = openIdleSite(opened.store);
  const { site, sent } = idle;
  site.receiveManifest(manifestOf(config, null, round, state, asked));

  withdraw();
  // Listeners hear of it behind the transaction.
  await Promise.resolve();

  expect(waiting()).toEqual([]);
  expect(keptBack(sent)).toHaveLength(times);
});
