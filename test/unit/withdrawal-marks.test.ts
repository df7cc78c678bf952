import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { defaultRunConfig, startFromText, startStateOf } from '../../core/config/run-config.ts';
import { freezeCohort } from '../../core/consent/cohort.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { versionsBeforeWithdrawal } from '../../core/coordinator/start-state.ts';
import { maxUpdatesPerRound } from '../../core/coordinator/update-receiver.ts';
import { recordWithdrawal, withdrawalMarks } from '../../core/coordinator/withdrawals.ts';
import { sha256 } from '../../core/shared/hash.ts';
import type { SiteMessage } from '../../core/site/site-node.ts';
import { tellWithdrawals } from '../../core/site/withdrawal-notices.ts';
import type { Store } from '../../core/store/store.ts';
import { siteToCoordinator } from '../../core/transport/messages.ts';
import { addImage, addRun, openTestStore } from '../fixtures/store.ts';

const updateOf = (siteId: string, round: number) => sha256(`${siteId} ${round}`);

/** What a coordinator has when a site delivered in a round. */
function deliver(
  store: Store,
  runId: string,
  round: number,
  siteId: string,
  status: 'received' | 'rejected' = 'received',
) {
  const update = { runId, round, siteId, sha256: updateOf(siteId, round) };
  store.updateArrivals.add(update);
  store.roundSites.upsert({ runId, round, siteId, status, updateSha256: update.sha256 });
  store.rounds.update(runId, round, { resultSha256: sha256(`${runId} ${round}`), status: 'closed' });
}

const tell = (store: Store, siteId: string, runId: string, round: number, owner = siteId) =>
  recordWithdrawal(store, siteId, { runId, round, updateSha256: updateOf(owner, round) });

describe('at a coordinator', () => {
  test('a notice marks from the round on whose result holds the update; repeating it changes nothing', () => {
    using opened = openTestStore();
    const { store } = opened;
    addRun(store, 'run', 3);
    for (const round of [0, 1, 2]) deliver(store, 'run', round, 'a');

    expect(tell(store, 'a', 'run', 1)).toBe(true);
    expect(tell(store, 'a', 'run', 1)).toBe(false);

    expect(withdrawalMarks(store).get('run')).toEqual({ fromRound: 1, siteIds: ['a'], inheritedFrom: null });
    expect(store.audit.page().filter(({ action }) => action === 'withdrawal-told')).toHaveLength(1);
  });

  test('an update that was rejected, or taken back before it was received, marks nothing', () => {
    using opened = openTestStore();
    const { store } = opened;
    addRun(store, 'run', 2);
    deliver(store, 'run', 0, 'a', 'rejected');
    tell(store, 'a', 'run', 0);
    // The site told of an update that never came, and sent another one afterwards.
    recordWithdrawal(store, 'a', { runId: 'run', round: 1, updateSha256: sha256('never arrived') });
    deliver(store, 'run', 1, 'a');

    expect(withdrawalMarks(store).size).toBe(0);
  });

  test('a site marks no contribution of another, and names no more than it may send', () => {
    using opened = openTestStore();
    const { store } = opened;
    addRun(store, 'run', 2);
    deliver(store, 'run', 0, 'a');
    deliver(store, 'run', 0, 'b');

    expect(tell(store, 'b', 'run', 0, 'a')).toBe(false);
    expect(recordWithdrawal(store, 'b', { runId: 'run', round: 7, updateSha256: sha256('x') })).toBe(false);
    for (let i = 0; i < 50; i++)
      recordWithdrawal(store, 'b', { runId: 'run', round: 1, updateSha256: sha256(`made up ${i}`) });

    expect(withdrawalMarks(store).size).toBe(0);
    expect(store.withdrawalNotices.list()).toHaveLength(maxUpdatesPerRound);
  });

  test('runs that start from a marked result are marked, and theirs; before it they begin again', () => {
    using opened = openTestStore();
    const { store } = opened;
    addRun(store, 'first', 3);
    for (const round of [0, 1, 2]) deliver(store, 'first', round, 'a');
    const start = (runId: string, round: number) => {
      const startFrom = startFromText({ runId, round, sha256: sha256(`${runId} ${round}`) });
      return defaultRunConfig({ baseId: 'b', baseSha256: '0'.repeat(64), classes: ['a', 'b'], startFrom });
    };
    const add = (id: string, runId: string, round: number) => {
      store.runs.insert({ id, config: start(runId, round) });
      store.rounds.insert({
        ...{ runId: id, round: 0, stage: 'heating', rank: 1, trainableParameters: 1 },
        ...{ startSha256: sha256(`${runId} ${round}`), resultSha256: sha256(`${id} 0`) },
      });
    };
    add('clean', 'first', 0);
    add('child', 'first', 1);
    add('grandchild', 'child', 0);
    tell(store, 'a', 'first', 1);

    const marks = withdrawalMarks(store);

    expect([...marks.keys()].sort()).toEqual(['child', 'first', 'grandchild']);
    expect(marks.get('grandchild')).toMatchObject({ fromRound: -1, inheritedFrom: 'child' });
    expect(versionsBeforeWithdrawal(store, 'first')).toEqual([{ runId: 'first', round: 0 }]);
    expect(versionsBeforeWithdrawal(store, 'grandchild')).toEqual([{ runId: 'first', round: 0 }]);
  });
});

const purpose = 'federated-training';
const ports = () => {
  const sent: SiteMessage[] = [];
  return { sent, enqueue: (message: SiteMessage) => void sent.push(message) };
};
const people = ['P1', 'P2', 'P3'];

/** A run of two rounds in which these subjects took part, whose updates were announced and answered. */
function contributed(store: Store, status: 'received' | 'announced' = 'received') {
  addRun(store, 'run', 2);
  for (const pseudonym of people) {
    addImage(store, pseudonym, pseudonym);
    recordConsent(store, {
      pseudonym,
      purpose,
      documentVersion: '1',
      validFrom: '2026-01-01',
      recordedBy: 'x',
    });
  }
  for (const round of [0, 1]) {
    const cohort = freezeCohort(store, { runId: 'run', round, purpose });
    const made = { runId: 'run', round, siteId: 'here', updateSha256: updateOf('here', round) };
    store.roundSites.upsert({ ...made, status, cohortSha256: cohort.sha256 });
    store.withdrawalNotices.keepAnnounced({ ...made, cohortSha256: cohort.sha256, sizeBytes: 9 });
  }
}

describe('at a site', () => {
  test('several who withdraw are told of once: the first contribution that was taken, and nothing about them', () => {
    using opened = openTestStore();
    const { store } = opened;
    contributed(store);
    const { sent, enqueue } = ports();

    expect(tellWithdrawals(store, { enqueue })).toBe(false);
    for (const pseudonym of people) withdrawConsent(store, { pseudonym, recordedBy: 'x' });
    expect(tellWithdrawals(store, { enqueue })).toBe(true);
    expect(tellWithdrawals(store, { enqueue })).toBe(false);

    expect(sent).toEqual([
      { type: 'withdrawn', body: { runId: 'run', round: 0, updateSha256: updateOf('here', 0) } },
    ]);
    expect(siteToCoordinator.withdrawn.safeParse({ ...sent[0]!.body, subjects: 3 }).success).toBe(false);
  });

  test('a purpose that the run did not use, and a consent that has only ended, tell nothing', () => {
    using opened = openTestStore();
    const { store, clock } = { ...opened, clock: opened.clock };
    contributed(store);
    const { enqueue } = ports();

    withdrawConsent(store, { pseudonym: 'P1', purpose: 'something-else', recordedBy: 'x' });
    recordConsent(store, {
      ...{ pseudonym: 'P2', purpose, documentVersion: '2', validFrom: '2026-01-01', expiresAt: '2026-11-23' },
      recordedBy: 'x',
    });
    clock.now = new Date('2026-12-24T12:00:00.000Z');

    expect(tellWithdrawals(store, { enqueue })).toBe(false);
  });

  test.each(['P1', 'P4'])(
    'an image that was corrected to be of somebody else is of both: %s withdraws',
    (who) => {
      using opened = openTestStore();
      const { store } = opened;
      contributed(store);
      const [image] = store.images.list({ subjectId: store.subjects.byPseudonym('P1')!.id });
      const { id: subjectId } = store.subjects.upsert({ pseudonym: 'P4' });
      store.images.correct(image!.id, { ...image!, subjectId });
      const { sent, enqueue } = ports();

      withdrawConsent(store, { pseudonym: who, recordedBy: 'x' });

      expect(tellWithdrawals(store, { enqueue })).toBe(true);
      expect(sent).toHaveLength(1);
    },
  );

  test('what was announced and not answered is told of as well: it may have arrived', () => {
    using opened = openTestStore();
    const { store } = opened;
    contributed(store, 'announced');
    const { sent, enqueue } = ports();

    withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'x' });
    tellWithdrawals(store, { enqueue });

    expect(sent.map(({ body }) => 'round' in body && body.round)).toEqual([0, 1]);
  });
});

test('what is owed outlives the rows that say why, as in an erasure', () => {
  using opened = openTestStore();
  const { store } = opened;
  contributed(store);
  withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'x' });

  store.withdrawalNotices.noteOwed();
  const db = new Database(opened.file);
  db.exec(`DROP TRIGGER consent_events_no_delete; DROP TRIGGER cohort_members_no_delete;
    DELETE FROM consent_events; DELETE FROM cohort_members`);
  db.close();
  const { sent, enqueue } = ports();
  tellWithdrawals(store, { enqueue });

  expect(sent).toHaveLength(1);
});

test('what a run starts from is one text that people and programs read alike', () => {
  const start = { runId: '3f2a-b', round: 2, sha256: 'a'.repeat(64) };

  expect(startFromText(start)).toBe(`round 3 of run 3f2a-b, SHA-256 ${'a'.repeat(64)}`);
  expect(startStateOf({ startFrom: startFromText(start) })).toEqual(start);
  expect(startStateOf({})).toBeNull();
});
