/** A run that ended unseen, or that a coordinator which went back does not know: it does not stay open at the site. */
import { beforeEach, expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { setPolicy } from '../../core/site/policy.ts';
import { discardWithdrawn, freezeRoundCohort, recordRun } from '../../core/site/site-records.ts';
import { chunkBytes } from '../../core/transport/messages.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { addImage, openTestStore, type TestStore } from '../fixtures/store.ts';

const base = shapeOnlyBase();
const config = defaultRunConfig({
  ...{ baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], quorum: 1, rounds: 4, rMax: 4 },
});
const manifest = (runId: string) => ({
  ...manifestOf(config, base, 0, { sha256: sha256(runId), sizeBytes: 10, chunkBytes }),
  runId,
});

let opened: TestStore;
beforeEach(() => {
  opened = openTestStore();
  return () => opened[Symbol.dispose]();
});
const statusOf = (runId: string) => opened.store.runs.get(runId)?.status;

test('when another run is asked for it is over, and goes on when it is asked for again', () => {
  const { store } = opened;
  recordRun(store, manifest('lost'));
  recordRun(store, manifest('next'));

  expect([statusOf('lost'), statusOf('next')]).toEqual(['stopped', 'running']);
  expect(store.runs.get('lost')?.finishedAt).not.toBeNull();
  expect(store.runs.current()?.id).toBe('next');

  recordRun(store, manifest('lost'));

  expect([statusOf('lost'), statusOf('next')]).toEqual(['running', 'stopped']);
});

test('an update of it that nobody has answered is taken back when somebody withdraws', () => {
  const { store } = opened;
  setPolicy(store, openPolicy, 'test');
  for (const pseudonym of ['P1', 'P2', 'P3']) {
    for (const label of ['a', 'b']) addImage(store, pseudonym, `${label} of ${pseudonym}`, { label });
    const terms = { purpose: config.purpose, documentVersion: '1', validFrom: '2026-01-01' };
    recordConsent(store, { pseudonym, ...terms, recordedBy: 'test' });
  }
  const asked = manifest('lost');
  recordRun(store, asked);
  const row = { runId: 'lost', round: 0, siteId: 'site' };
  const cohort = freezeRoundCohort(store, {
    ...asked,
    ...row,
    baseId: base.id,
    state: asked.state!,
    isLast: false,
  });
  const sent = { updateSha256: sha256('update'), cohortSha256: cohort.sha256 };
  store.roundSites.upsert({ ...row, status: 'announced', ...sent });
  const message = { ...row, topic: 'up', payload: Buffer.of(), messageId: 'm', type: 'announce' };
  store.outbox.add({ ...message, updateSha256: sent.updateSha256 });
  recordRun(store, manifest('next'));
  const taken: string[] = [];
  const ports = { retractAnnouncement: (runId: string) => void taken.push(runId), enqueue: () => {} };
  expect(discardWithdrawn(store, ports)).toBeNull();

  withdrawConsent(store, { pseudonym: 'P2', recordedBy: 'test' });

  expect(discardWithdrawn(store, ports)).toContain(sent.updateSha256);
  expect(taken).toEqual(['lost']);
});
