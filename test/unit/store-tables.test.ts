import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { AppError } from '../../core/shared/errors.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { addImage, addRun, openTestStore } from '../fixtures/store.ts';

const failure = { code: 'DISK_FULL', message: 'full', action: 'free some' } as const;

describe('settings', () => {
  test('give back what was set, null when unset, and refuse what does not fit', () => {
    using opened = openTestStore();
    const { settings } = opened.store;
    const schema = z.object({ mode: z.enum(['site', 'coordinator']) });

    expect(settings.get('agent', schema)).toBeNull();
    settings.set('agent', { mode: 'site' });
    settings.set('agent', { mode: 'coordinator' });
    expect(settings.get('agent', schema)).toEqual({ mode: 'coordinator' });
    settings.set('agent', { mode: 'king' });
    expect(() => settings.get('agent', schema)).toThrow(
      expect.objectContaining({ code: 'DATABASE_DAMAGED' }),
    );
    settings.remove('agent');
    expect(settings.get('agent', schema)).toBeNull();
  });
});

describe('subjects', () => {
  test('are made once', () => {
    using opened = openTestStore();
    const { subjects } = opened.store;

    const first = subjects.upsert({ pseudonym: 'P1' });
    const again = subjects.upsert({ pseudonym: 'P1' });

    expect(again).toEqual(first);
    expect(subjects.byPseudonym('P1')).toEqual(first);
    expect(subjects.count()).toBe(1);
  });

  test('are searched by a part of the pseudonym, wildcards meaning themselves', () => {
    using opened = openTestStore();
    for (const pseudonym of ['Ward_1', 'ward-2', 'X100%']) opened.store.subjects.upsert({ pseudonym });
    const search = (text: string) => opened.store.subjects.list({ search: text }).map((row) => row.pseudonym);

    expect(search('WARD')).toEqual(['Ward_1', 'ward-2']);
    expect(search('_')).toEqual(['Ward_1']);
    expect(search('%')).toEqual(['X100%']);
    expect(search('')).toHaveLength(3);
  });

  test('are listed with their ready images and labels only', () => {
    using opened = openTestStore();
    addImage(opened.store, 'P1', 'one', { label: 'b' });
    addImage(opened.store, 'P1', 'two', { label: 'a' });
    addImage(opened.store, 'P1', 'three', { label: 'c', status: 'set-aside', reason: 'no face' });

    expect(opened.store.subjects.list()).toMatchObject([{ pseudonym: 'P1', images: 2, labels: ['a', 'b'] }]);
  });
});

describe('images', () => {
  test('the same bytes enter a dataset once, and another dataset again', () => {
    using opened = openTestStore();
    const { store } = opened;
    const id = addImage(store, 'P1', 'one');

    expect(addImage(store, 'P2', 'one')).toBeNull();
    const other = addImage(store, 'P1', 'one', { datasetId: store.datasets.ensure('other').id });

    expect(other).toBeGreaterThan(id);
    expect(store.images.bySha(store.datasets.ensure('faces').id, sha256('one'))).toMatchObject({
      id,
      pseudonym: 'P1',
    });
  });

  test('keep their face box, and can be set aside and made ready again', () => {
    using opened = openTestStore();
    const { images } = opened.store;
    const box = { x: 1.5, y: 2, width: 90, height: 100 };
    const id = addImage(opened.store, 'P1', 'one', { faceBox: box });

    expect(images.get(id)).toMatchObject({ faceBox: box, status: 'ready', reason: null });
    images.setAside(id, 'blurred');
    expect(images.get(id)).toMatchObject({ status: 'set-aside', reason: 'blurred', asideKind: 'other' });
    images.reconsider(id, {
      ...{ status: 'ready', reason: null, asideKind: null, cropSha256: sha256('new crop') },
      cropKind: 'region',
      ...{ width: 10, height: 20, faceBox: null, quality: null, cropHash: null },
    });
    expect(images.get(id)).toMatchObject({ status: 'ready', reason: null, width: 10, faceBox: null });
  });

  test('are counted by label and split, and listed by what is asked', () => {
    using opened = openTestStore();
    const { store } = opened;
    addImage(store, 'P1', 'one');
    addImage(store, 'P1', 'two', { split: 'test' });
    addImage(store, 'P2', 'three', { label: 'b' });
    addImage(store, 'P2', 'four', { label: 'b', status: 'set-aside', reason: 'two faces', cropSha256: null });

    expect(store.images.counts()).toEqual([
      { label: 'a', split: 'test', ready: 1, setAside: 0 },
      { label: 'a', split: 'train', ready: 1, setAside: 0 },
      { label: 'b', split: 'train', ready: 1, setAside: 1 },
    ]);
    const names = store.images.list({ split: 'train', status: 'ready' }).map((image) => image.sourceName);
    expect(names).toEqual(['one.png', 'three.png']);
  });

  test('a ready image needs its crop', () => {
    using opened = openTestStore();

    expect(() => addImage(opened.store, 'P1', 'one', { cropSha256: null })).toThrow(/CHECK/);
  });
});

describe('sites and invitations', () => {
  test('a revoked site is enrolled again by joining again', () => {
    using opened = openTestStore();
    const { sites } = opened.store;
    const site = { id: 's1', name: 'North', publicKey: 'k1', certificateSerial: '01' };

    sites.upsert(site);
    expect(sites.revoke('s1')).toBe(true);
    expect(sites.revoke('s1')).toBe(false);
    expect(sites.revoke('nobody')).toBe(false);
    expect(sites.get('s1')?.revokedAt).toBe('2026-11-22T12:00:00.000Z');
    sites.touchLastSeen('s1', '2026-11-22T12:30:00.000Z');
    sites.upsert({ ...site, certificateSerial: '02' });

    expect(sites.list()).toMatchObject([
      { revokedAt: null, certificateSerial: '02', lastSeenAt: '2026-11-22T12:30:00.000Z' },
    ]);
  });

  test('an invitation is used once', () => {
    using opened = openTestStore();
    const { invitations } = opened.store;
    invitations.insert({
      id: 'i1',
      siteName: 'North',
      tokenSha256: 't',
      expiresAt: '2026-11-23T00:00:00.000Z',
    });

    expect(invitations.markUsed('i1', 's1')).toBe(true);
    expect(invitations.markUsed('i1', 's2')).toBe(false);
    expect(invitations.markUsed('i2', 's1')).toBe(false);
    expect(invitations.byId('i1')).toMatchObject({ siteId: 's1', usedAt: '2026-11-22T12:00:00.000Z' });
  });
});

describe('runs and rounds', () => {
  test('the current run is the newest that is not over', () => {
    using opened = openTestStore();
    const { runs } = opened.store;
    for (const id of ['r1', 'r2', 'r3']) runs.insert({ id, config: { seed: 1 } });

    runs.update('r3', { status: 'failed', failure, finishedAt: '2026-11-22T12:01:00.000Z' });
    runs.update('r2', { status: 'evaluating', round: 4 });

    expect(runs.current()).toMatchObject({ id: 'r2', round: 4, config: { seed: 1 }, failure: null });
    expect(runs.get('r3')?.failure).toEqual(failure);
    expect(runs.list().map((run) => run.id)).toEqual(['r3', 'r2', 'r1']);
    expect(() => runs.update('r9', { round: 1 })).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }));
    expect(() => runs.insert({ id: 'r1', config: {} })).toThrow(
      expect.objectContaining({ code: 'RUN_CONFLICT' }),
    );
  });

  test('counters of a round add up beside other changes', () => {
    using opened = openTestStore();
    const { rounds, runs } = opened.store;
    addRun(opened.store, 'r1', 2);

    rounds.addTraffic('r1', { bytesUp: 10, parametersDown: 3 });
    rounds.addTraffic('r1', { bytesUp: 5, bytesDown: 7 });
    rounds.update('r1', 0, { addParametersUp: 2 });
    const row = rounds.update('r1', 0, { addParametersUp: 4, status: 'closed', meanLoss: 0.25 });

    expect(row).toMatchObject({
      bytesUp: 15,
      bytesDown: 7,
      parametersDown: 3,
      parametersUp: 6,
      status: 'closed',
      meanLoss: 0.25,
    });
    expect(rounds.get('r1', 1)).toMatchObject({ bytesUp: 0, status: 'open' });
    // Traffic is that of the round which the run is in; between rounds it is nobody's.
    runs.update('r1', { round: 1 });
    rounds.addTraffic('r1', { bytesUp: 8 });
    runs.update('r1', { round: 2 });
    rounds.addTraffic('r1', { bytesUp: 1 });
    expect(rounds.listOfRun('r1').map(({ bytesUp }) => bytesUp)).toEqual([15, 8]);
    expect(rounds.update('r1', 1, {}).status).toBe('open');
    expect(() => rounds.update('r1', 9, { addParametersUp: 1 })).toThrow(
      expect.objectContaining({ code: 'NOT_FOUND' }),
    );
    expect(() => addRun(opened.store, 'r1')).toThrow(AppError);
    const { runId: _, ...noRun } = row;
    expect(() => rounds.insert({ ...noRun, runId: 'r9' })).toThrow(
      expect.objectContaining({ code: 'NOT_FOUND' }),
    );
    const unset = { status: undefined, openedAt: undefined, bytesUp: undefined };
    expect(rounds.insert({ ...noRun, ...unset, runId: 'r1', round: 2 })).toMatchObject({
      ...{ status: 'open', openedAt: opened.store.now(), bytesUp: 0, bytesDown: 7 },
    });
  });

  test('a site row keeps the fields that an update does not give', () => {
    using opened = openTestStore();
    const { roundSites } = opened.store;
    addRun(opened.store, 'r1');
    const key = { runId: 'r1', round: 0, siteId: 's1' };

    expect(roundSites.upsert({ ...key, step: 3, steps: 9 }).status).toBe('working');
    roundSites.upsert({ ...key, status: 'announced', updateSha256: sha256('u'), examples: 20 });
    const row = roundSites.upsert({ ...key, status: 'received', step: null });

    expect(row).toMatchObject({
      status: 'received',
      examples: 20,
      step: null,
      steps: 9,
      updateSha256: sha256('u'),
    });
    expect(() => roundSites.upsert({ ...key, round: 7 })).toThrow(
      expect.objectContaining({ code: 'NOT_FOUND' }),
    );
  });

  test('an evaluation that is sent again replaces the first', () => {
    using opened = openTestStore();
    const { evaluations } = opened.store;
    addRun(opened.store, 'r1');
    const key = { runId: 'r1', stateSha256: sha256('g'), siteId: 's1' };

    evaluations.upsert({ ...key, correct: 3, total: 10 });
    evaluations.upsert({ ...key, correct: 4, total: 10 });

    expect(evaluations.ofState('r1', sha256('g'))).toMatchObject([{ correct: 4, total: 10 }]);
    expect(() => evaluations.upsert({ ...key, correct: 11, total: 10 })).toThrow(/CHECK/);
  });

  test('two runs may start from one and the same state; repeating an insert changes nothing', () => {
    using opened = openTestStore();
    const { adapters } = opened.store;
    const state = {
      sha256: sha256('g'),
      round: -1,
      kind: 'global',
      rank: 8,
      parameters: 5,
      sizeBytes: 20,
    } as const;

    for (const runId of ['r1', 'r2', 'r2']) adapters.insert({ ...state, runId });

    expect(adapters.list({ kind: 'global' }).map((row) => row.runId)).toEqual(['r2', 'r1']);
    expect(adapters.get(sha256('g'))?.runId).toBe('r2');
    expect(adapters.list({ kind: 'update' })).toEqual([]);
  });
});

describe('a site’s local parameters of a run', () => {
  test('is found by the round before, replaced by a round done again, and forgotten when nothing starts from it', () => {
    using opened = openTestStore();
    const { siteMemory } = opened.store;
    addRun(opened.store, 'run', 4);
    addRun(opened.store, 'other');
    const put = (round: number, text: string) =>
      siteMemory.put({ runId: 'run', round, sha256: sha256(text) });
    siteMemory.put({ runId: 'other', round: 0, sha256: sha256('other') });

    put(0, 'first');
    put(2, 'third');
    put(2, 'third again');

    expect(siteMemory.newestBefore('run', 0)).toBeNull();
    // A site may have missed a round.
    expect(siteMemory.newestBefore('run', 2)).toMatchObject({ round: 0, sha256: sha256('first') });
    expect(siteMemory.newestBefore('run', 3)?.sha256).toBe(sha256('third again'));
    siteMemory.prune('run', 2);
    expect(siteMemory.list().map(({ runId, round }) => [runId, round])).toEqual([
      ['other', 0],
      ['run', 0],
      ['run', 2],
    ]);
    siteMemory.prune('run', 3);
    expect(siteMemory.list().map(({ runId, round }) => [runId, round])).toEqual([
      ['other', 0],
      ['run', 2],
    ]);
    siteMemory.remove('run', 2);
    expect(siteMemory.newestBefore('run', 4)).toBeNull();
  });
});
