import { describe, expect, test } from 'vitest';
import { consentNotes, consentOutlook, estimateRunEnd } from '../../core/api/consent-notes.ts';
import { defaultRunConfig, type RunConfig, startFromText } from '../../core/config/run-config.ts';
import { recordConsent } from '../../core/consent/consent.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { addImage, addRun, openTestStore, type TestStore } from '../fixtures/store.ts';

const dayMs = 24 * 3_600_000;

const configOf = (change: Partial<RunConfig> = {}) =>
  defaultRunConfig({ baseId: 'base', baseSha256: '0'.repeat(64), classes: ['a', 'b'], rounds: 4, ...change });

function consenting({ store }: TestStore, pseudonym: string, lastDay: string | null, label = 'a'): void {
  addImage(store, pseudonym, `image of ${pseudonym}`, { label });
  recordConsent(store, {
    ...{ pseudonym, purpose: 'federated-training', documentVersion: '1', recordedBy: 'test' },
    ...{ validFrom: '2026-01-01', expiresAt: lastDay },
  });
}

describe('when a run is likely to end', () => {
  test('before its second round that follows from the deadline of its rounds', () => {
    using opened = openTestStore('2026-11-22T12:00:00.000Z');

    expect(estimateRunEnd(opened.store, 'run', configOf({ roundDeadlineMs: dayMs }))).toEqual({
      at: '2026-11-26T12:00:00.000Z',
      by: 'planned',
    });
  });

  test('then from how long its rounds have taken', () => {
    using opened = openTestStore('2026-11-22T12:00:00.000Z');
    opened.store.runs.insert({ id: 'run', config: {} });
    for (const [round, at] of ['2026-11-22T10:00:00.000Z', '2026-11-22T11:00:00.000Z'].entries())
      opened.store.rounds.insert({
        ...{ runId: 'run', round, stage: 'heating', rank: 1, trainableParameters: 1, openedAt: at },
        startSha256: sha256(String(round)),
      });

    expect(estimateRunEnd(opened.store, 'run', configOf({ roundDeadlineMs: dayMs }))).toEqual({
      at: '2026-11-22T14:00:00.000Z',
      by: 'measured',
    });
  });

  test('a run that never ends by its settings is no reason for a date that does not exist', () => {
    using opened = openTestStore();
    const config = configOf({ rounds: 1000, roundDeadlineMs: 2_147_483_647 });

    expect(Date.parse(estimateRunEnd(opened.store, 'run', config).at)).toBeLessThan(
      Date.parse('+010000-01-01'),
    );
  });
});

test('a letter names consents that end before the run does: of subjects whose images would train, and no others', () => {
  using opened = openTestStore('2026-11-22T12:00:00.000Z');
  consenting(opened, 'ends', '2026-11-24');
  consenting(opened, 'ends-first', '2026-11-23', 'b');
  consenting(opened, 'lasts', '2027-11-24');
  consenting(opened, 'for-ever', null);
  consenting(opened, 'other-class', '2026-11-23', 'c');
  const config = configOf({ roundDeadlineMs: dayMs });

  const [note, ...others] = consentNotes(opened.store, 'run', config);

  expect(note).toContain('2 subjects');
  expect(note).toContain('2026-11-24');
  expect(note).toContain('until its deadline');
  expect(others).toEqual([]);
  expect(consentNotes(opened.store, 'run', configOf({ roundDeadlineMs: 60_000 }))).toEqual([]);
});

test('a letter says when the run starts from what somebody here has withdrawn from', () => {
  using opened = openTestStore();
  const { store } = opened;
  addRun(store, 'before', 2);
  const updateSha256 = sha256('update');
  store.roundSites.upsert({ runId: 'before', round: 1, siteId: 'here', status: 'received', updateSha256 });
  store.withdrawalNotices.add({ runId: 'before', round: 1, siteId: 'here', updateSha256 });
  const from = (round: number) =>
    configOf({ startFrom: startFromText({ runId: 'before', round, sha256: sha256('x') }) });

  expect(consentNotes(store, 'run', from(0))).toEqual([]);
  expect(consentNotes(store, 'run', from(1))[0]).toContain('has withdrawn');
});

test('an overview counts consents that end within 60 days', () => {
  using opened = openTestStore('2026-11-22T12:00:00.000Z');
  consenting(opened, 'soon', '2027-01-15');
  consenting(opened, 'later', '2027-03-15');

  expect(consentOutlook(opened.store, null)).toEqual({ expiring: 1, notes: [] });
});
