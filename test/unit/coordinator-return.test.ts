/** What a site delivers again to a coordinator that went back in time, and what it does not. Store and rules are real. */
import { beforeEach, describe, expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { checkManifest } from '../../core/site/approval.ts';
import {
  declineUnkept,
  deliverAgain,
  exchangeState,
  mostReturns,
  repeatRounds,
} from '../../core/site/coordinator-return.ts';
import { setPolicy } from '../../core/site/policy.ts';
import type { SiteMessage } from '../../core/site/site-node.ts';
import {
  freezeRoundCohort,
  recordAnnouncement,
  recordReceipt,
  recordRun,
  takeBackDamaged,
} from '../../core/site/site-records.ts';
import { chunkBytes, type ManifestBody } from '../../core/transport/messages.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { addImage, openTestStore, type TestStore } from '../fixtures/store.ts';

const siteId = 'site';
const base = shapeOnlyBase();
const config = defaultRunConfig({
  ...{ baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], quorum: 1, rounds: 4, rMax: 4 },
});
const stateOf = (name: string) => ({ sha256: sha256(name), sizeBytes: 10, chunkBytes });
const manifest = (round: number, state = `state ${round}`): ManifestBody =>
  manifestOf(config, base, round, stateOf(state));
const context = (round: number) => ({
  ...manifest(round),
  ...{ siteId, baseId: base.id, state: stateOf(`state ${round}`), isLast: false },
});
const held = { has: () => true };
const gone = { has: () => false };

let opened: TestStore;
let sent: SiteMessage[];
const ports = { enqueue: (message: SiteMessage) => void sent.push(message) };

/** A round as it was trained, announced and received. */
function deliver(round: number): void {
  const { store } = opened;
  recordRun(store, manifest(round));
  const cohort = freezeRoundCohort(store, context(round));
  const update = { sha256: sha256(`update ${round}`), sizeBytes: 5, values: 1 };
  const result = { meanLoss: 1, steps: 1, examples: 6, imagesPerSecond: 1, wallMs: 1, events: [] };
  const trained = {
    ...{ cohort, result, held: { [Symbol.dispose]() {} } },
    update: { ...update, start: null, memory: null, clipped: null },
  };
  expect(recordAnnouncement(store, ports, context(round), trained)).toBe(true);
  const receipt = { runId: 'run', round, updateSha256: update.sha256, accepted: true };
  expect(recordReceipt(store, siteId, receipt)).toBe(true);
}

const statusOf = (round: number) => opened.store.roundSites.get('run', round, siteId)?.status;

beforeEach(() => {
  opened = openTestStore();
  sent = [];
  const { store } = opened;
  setPolicy(store, openPolicy, 'test');
  for (const [index, pseudonym] of ['P1', 'P2', 'P3'].entries()) {
    for (const label of ['a', 'b']) addImage(store, pseudonym, `${label} ${index}`, { label });
    const terms = { purpose: config.purpose, documentVersion: '1', validFrom: '2026-01-01T00:00:00.000Z' };
    recordConsent(store, { pseudonym, ...terms, recordedBy: 'test' });
  }
  for (const round of [0, 1, 2]) deliver(round);
  return () => opened[Symbol.dispose]();
});

describe('a coordinator that went back to round 2', () => {
  test('gets the very same update again, without training', () => {
    const { store } = opened;
    const [, before] = sent;
    repeatRounds(store, siteId, manifest(1));
    expect([0, 1, 2].map(statusOf)).toEqual(['received', 'working', 'working']);
    sent = [];

    expect(deliverAgain(store, held, ports, context(1))).toBe('announced');
    expect(sent).toEqual([before]);
    expect(statusOf(1)).toBe('announced');
  });

  test('gets nothing again that somebody has withdrawn from since: the round is trained anew', () => {
    const { store } = opened;
    withdrawConsent(store, { pseudonym: 'P2', recordedBy: 'test' });
    repeatRounds(store, siteId, manifest(1));
    sent = [];

    expect(deliverAgain(store, held, ports, context(1))).toBe('nothing');
    expect(sent).toEqual([]);
    expect(statusOf(1)).toBe('working');
    expect(store.adapters.get(sha256('update 1'))).toBeNull();
  });

  test('gets a round trained anew whose file is gone', () => {
    const { store } = opened;
    repeatRounds(store, siteId, manifest(1));
    expect(deliverAgain(store, gone, ports, context(1))).toBe('nothing');
    expect(statusOf(1)).toBe('working');
  });

  test('may begin repeated rounds with other states, each once, so often at most', () => {
    const { store } = opened;
    const isTaken = (round: number, state: string) => {
      const asked = manifest(round, state);
      exchangeState(store, siteId, asked);
      try {
        checkManifest(asked, store);
        return true;
      } catch {
        return false;
      }
    };
    const without = isTaken(2, 'another');
    const taken: boolean[] = [];
    for (let time = 0; time <= mostReturns; time++) {
      repeatRounds(store, siteId, manifest(1));
      taken.push(isTaken(2, `another ${time}`), isTaken(2, `yet another ${time}`));
      expect(isTaken(0, `another ${time}`)).toBe(false);
    }

    expect(without).toBe(false);
    expect(taken).toEqual([...Array(mostReturns).fill([true, false]).flat(), false, false]);
    expect(store.audit.page().filter(({ action }) => action === 'state-exchanged')).toHaveLength(mostReturns);
  });

  test('gets no more of a run by going back in another one in between', () => {
    const { store } = opened;
    const inRun = (runId: string, state: string) => ({ ...manifest(1, state), runId });
    recordRun(store, inRun('other run', 'state 1'));
    const isTaken = (asked: ManifestBody) => {
      exchangeState(store, siteId, asked);
      return store.rounds.get(asked.runId, 1)!.startSha256 === asked.state!.sha256;
    };
    const taken: boolean[] = [];
    for (let time = 0; time <= mostReturns; time++) {
      for (const runId of ['run', 'other run']) {
        const asked = inRun(runId, `another ${time}`);
        recordRun(store, asked);
        repeatRounds(store, siteId, asked);
        taken.push(isTaken(asked));
      }
    }

    expect(taken).toEqual([...Array(2 * mostReturns).fill(true), false, false]);
  });
});

describe('where this site adds noise, what is not here any more is not made anew', () => {
  const noisy = { ...config, privacy: { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } } as const;
  const inNoise = (round: number) => ({
    ...manifestOf(noisy, base, round, stateOf(`state ${round}`)),
    runId: 'noisy',
  });
  const update = sha256('noisy update');
  const row = { runId: 'noisy', round: 0, siteId };

  beforeEach(() => {
    recordRun(opened.store, inNoise(0));
    opened.store.roundSites.upsert({
      ...row,
      status: 'received',
      updateSha256: update,
      sizeBytes: 5,
      examples: 5,
    });
    sent = [];
  });

  test('a coordinator that went back hears that it need not wait', () => {
    const { store } = opened;
    repeatRounds(store, siteId, inNoise(0));

    expect(store.roundSites.get('noisy', 0, siteId)?.status).toBe('received');
    expect(declineUnkept(store, ports, row)).toBe(true);
    expect(sent).toMatchObject([{ type: 'declined', body: { runId: 'noisy', round: 0 } }]);
  });

  test('one that did not go back is told nothing: it has it', () => {
    expect(declineUnkept(opened.store, ports, row)).toBe(false);
    expect(sent).toEqual([]);
  });

  test.each(['announced', 'received'] as const)(
    'one that asks for an update that was %s hears it, too',
    (status) => {
      const { store } = opened;
      store.roundSites.upsert({ ...row, status });

      expect(takeBackDamaged(store, { ...ports, retractAnnouncement: () => {} }, update)).not.toBeNull();

      expect(store.roundSites.get('noisy', 0, siteId)?.status).toBe('rejected');
      expect(sent).toMatchObject([{ type: 'declined', body: { runId: 'noisy', round: 0 } }]);
    },
  );
});

test('without noise a lost update is made anew, and nobody is told to go on without it', () => {
  const { store } = opened;
  store.roundSites.upsert({ runId: 'run', round: 2, siteId, status: 'announced' });
  sent = [];

  takeBackDamaged(store, { ...ports, retractAnnouncement: () => {} }, sha256('update 2'));

  expect(statusOf(2)).toBe('working');
  expect(sent).toEqual([]);
});
