import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cohortsTouchedBySubject, freezeCohort, heldOutImages } from '../../core/consent/cohort.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { traceSubject } from '../../core/consent/trace.ts';
import { hashJson, sha256 } from '../../core/shared/hash.ts';
import type { Store } from '../../core/store/store.ts';
import { addImage, addRun, openTestStore } from '../fixtures/store.ts';

const purpose = 'federated-training';
const agree = (store: Store, pseudonym: string, change: { purpose?: string; expiresAt?: string } = {}) =>
  recordConsent(store, {
    pseudonym,
    purpose,
    documentVersion: '1',
    // Also after a withdrawal of the same instant: the clock stands.
    validFrom: change.expiresAt === undefined ? store.now() : '2026-01-01',
    recordedBy: 'desk',
    afterWithdrawal: true,
    ...change,
  });
const withdraw = (store: Store, pseudonym: string) =>
  withdrawConsent(store, { pseudonym, recordedBy: 'desk' });
const freeze = (store: Store, round = 0, runId = 'r1') => freezeCohort(store, { runId, round, purpose });
const names = (images: { sourceName: string }[]) => images.map((image) => image.sourceName).sort();

describe('a frozen cohort', () => {
  test('holds exactly the ready training images of consenting subjects', () => {
    using opened = openTestStore();
    const { store } = opened;
    addImage(store, 'P1', 'in');
    addImage(store, 'P1', 'held-out', { split: 'test' });
    addImage(store, 'P1', 'aside', { status: 'set-aside', reason: 'no face' });
    addImage(store, 'P2', 'other-purpose');
    addImage(store, 'P3', 'expired');
    addImage(store, 'P4', 'never-asked');
    addImage(store, 'P5', 'withdrawn');
    agree(store, 'P1');
    agree(store, 'P2', { purpose: 'teaching' });
    agree(store, 'P3', { expiresAt: '2026-11-21' });
    agree(store, 'P5');
    withdraw(store, 'P5');

    const cohort = freeze(store);

    expect(names(cohort.images)).toEqual(['in.png']);
    expect(names(heldOutImages(store, { purpose, at: store.now() }))).toEqual(['held-out.png']);
    expect(store.cohorts.members(cohort.cohortId)).toEqual([
      { imageId: cohort.images[0]!.id, subjectId: cohort.images[0]!.subjectId },
    ]);
    expect(store.cohorts.get(cohort.cohortId)).toMatchObject({
      size: 1,
      sha256: cohort.sha256,
      superseded: false,
    });
  });

  test('can be kept to one dataset and to the classes of a run', () => {
    using opened = openTestStore();
    const { store } = opened;
    const datasetId = store.datasets.ensure('other').id;
    addImage(store, 'P1', 'one');
    addImage(store, 'P1', 'two', { label: 'b' });
    addImage(store, 'P1', 'three', { datasetId });
    agree(store, 'P1');
    const request = { runId: 'r1', round: 0, purpose };

    expect(names(freezeCohort(store, { ...request, datasetId }).images)).toEqual(['three.png']);
    expect(names(freezeCohort(store, { ...request, labels: ['b', 'c'] }).images)).toEqual(['two.png']);
    expect(freezeCohort(store, { ...request, labels: [] }).images).toEqual([]);
  });

  test('has the hash of its canonical list, whatever the order of import', () => {
    const hashes = [
      ['x', 'y'],
      ['y', 'x'],
    ].map((order) => {
      using opened = openTestStore();
      for (const name of order) addImage(opened.store, 'P1', name);
      agree(opened.store, 'P1');
      return freeze(opened.store).sha256;
    });

    const member = (name: string) => ({
      sha256: sha256(name),
      cropSha256: sha256(`crop of ${name}`),
      label: 'a',
      pseudonym: 'P1',
    });
    const images = [member('x'), member('y')].sort((a, b) => (a.sha256 < b.sha256 ? -1 : 1));
    expect(hashes).toEqual([hashJson({ purpose, images }), hashJson({ purpose, images })]);
  });

  test('is written into the audit trail without pseudonyms or file names', () => {
    using opened = openTestStore();
    addImage(opened.store, 'P-secret', 'file-secret');
    agree(opened.store, 'P-secret');

    const cohort = freeze(opened.store);

    const row = opened.store.audit.page({ limit: 1 })[0]!;
    expect(row).toMatchObject({
      action: 'cohort.frozen',
      details: { runId: 'r1', round: 0, cohortSha256: cohort.sha256, images: 1, subjects: 1, supersedes: [] },
    });
    expect(JSON.stringify(row)).not.toContain('secret');
  });

  test('asked for again unchanged is the same one; changed, it supersedes the old', () => {
    using opened = openTestStore();
    const { store } = opened;
    for (const pseudonym of ['P1', 'P2']) {
      addImage(store, pseudonym, `of ${pseudonym}`);
      agree(store, pseudonym);
    }
    const first = freeze(store);

    expect(freeze(store)).toEqual(first);
    withdraw(store, 'P2');
    const second = freeze(store);

    expect(second.cohortId).not.toBe(first.cohortId);
    expect(store.cohorts.byRun('r1').map((cohort) => cohort.superseded)).toEqual([true, false]);
  });

  test('whose update was announced stays on record when the round is frozen again', () => {
    using opened = openTestStore();
    const { store } = opened;
    addRun(store, 'r1');
    addImage(store, 'P1', 'one');
    agree(store, 'P1');
    const first = freeze(store);
    store.roundSites.upsert({
      runId: 'r1',
      round: 0,
      siteId: 's1',
      status: 'announced',
      cohortSha256: first.sha256,
      updateSha256: sha256('update'),
    });
    withdraw(store, 'P1');

    freeze(store);

    expect(cohortsTouchedBySubject(store, 'P1').map((cohort) => cohort.id)).toEqual([first.cohortId]);
  });

  test('stays on record, too, when a later one of its round was announced as well', () => {
    using opened = openTestStore();
    const { store } = opened;
    addRun(store, 'r1');
    for (const pseudonym of ['P1', 'P2', 'P3']) {
      addImage(store, pseudonym, `of ${pseudonym}`);
      agree(store, pseudonym);
    }
    for (const pseudonym of ['P1', 'P2']) {
      const { sha256: cohortSha256 } = freeze(store);
      const row = { runId: 'r1', round: 0, siteId: 's1', updateSha256: sha256(cohortSha256) };
      store.roundSites.upsert({ ...row, status: 'announced', cohortSha256 });
      withdraw(store, pseudonym);
    }
    freeze(store);
    withdraw(store, 'P3');

    freeze(store);

    expect(store.cohorts.byRun('r1').map((cohort) => cohort.superseded)).toEqual([false, false, true, false]);
  });

  test('never holds an image of somebody who withdrew, over any course of events', () => {
    const steps = fc.array(
      fc.record({ subject: fc.nat(3), what: fc.constantFrom('agree', 'withdraw', 'import', 'freeze') }),
      { minLength: 1, maxLength: 25 },
    );
    fc.assert(
      fc.property(steps, (course) => {
        using opened = openTestStore();
        const { store } = opened;
        const agreed = new Set<string>();
        const imported = new Map<string, string[]>();
        for (const pseudonym of ['P0', 'P1', 'P2', 'P3']) store.subjects.upsert({ pseudonym });

        for (const [index, { subject, what }] of course.entries()) {
          const pseudonym = `P${subject}`;
          if (what === 'agree') {
            agree(store, pseudonym);
            agreed.add(pseudonym);
          } else if (what === 'withdraw') {
            withdraw(store, pseudonym);
            agreed.delete(pseudonym);
          } else if (what === 'import') {
            addImage(store, pseudonym, `${pseudonym} ${index}`);
            imported.set(pseudonym, [...(imported.get(pseudonym) ?? []), `${pseudonym} ${index}.png`]);
          }
          const expected = [...agreed].flatMap((name) => imported.get(name) ?? []).sort();
          expect(names(freeze(store, index).images)).toEqual(expected);
        }
      }),
      { numRuns: 20 },
    );
  });

  test('is all or nothing with the transaction around it', () => {
    using opened = openTestStore();
    const { store } = opened;
    addImage(store, 'P1', 'one');
    agree(store, 'P1');
    const auditRows = store.audit.verify().rows;

    expect(() =>
      store.transaction(() => {
        freeze(store);
        throw new Error('the round was closed meanwhile');
      }),
    ).toThrow('closed meanwhile');

    expect(store.cohorts.byRun('r1')).toEqual([]);
    expect(store.audit.verify()).toMatchObject({ intact: true, rows: auditRows });
  });
});

describe('tracing a subject', () => {
  /** Three rounds; the global state before round n is `RUN n-1`. */
  const prepare = () => {
    const opened = openTestStore();
    const { store } = opened;
    addRun(store, 'r1', 3);
    for (const pseudonym of ['P1', 'P2']) {
      addImage(store, pseudonym, `of ${pseudonym}`);
      agree(store, pseudonym);
    }
    return opened;
  };

  test('names its rounds and every global adapter from the first of them on', () => {
    using opened = prepare();
    const { store } = opened;
    withdraw(store, 'P1');
    freeze(store, 0);
    agree(store, 'P1');
    freeze(store, 1);
    withdraw(store, 'P1');
    freeze(store, 2);
    store.rounds.update('r1', 2, { resultSha256: sha256('r1 2') });
    store.adapters.insert({
      sha256: sha256('r1 2'),
      runId: 'r1',
      round: 2,
      kind: 'global',
      rank: 8,
      parameters: 1,
      sizeBytes: 1,
    });

    expect(traceSubject(store, 'P1')).toEqual({
      pseudonym: 'P1',
      runs: [{ runId: 'r1', rounds: [1], globalAdapters: [sha256('r1 1'), sha256('r1 2')] }],
    });
    expect(traceSubject(store, 'P2').runs).toEqual([
      {
        runId: 'r1',
        rounds: [0, 1, 2],
        globalAdapters: ['r1 0', 'r1 1', 'r1 2'].map((name) => sha256(name)),
      },
    ]);
  });

  test('leaves out a cohort that was superseded before anything left', () => {
    using opened = prepare();
    const { store } = opened;
    freeze(store, 0);
    withdraw(store, 'P1');

    expect(cohortsTouchedBySubject(store, 'P1')).toHaveLength(1);
    freeze(store, 0);

    expect(cohortsTouchedBySubject(store, 'P1')).toEqual([]);
    expect(traceSubject(store, 'P1').runs).toEqual([]);
  });

  test('follows a later run that starts from a touched adapter', () => {
    using opened = prepare();
    const { store } = opened;
    freeze(store, 1);
    store.runs.insert({ id: 'r2', config: {} });
    const round = { runId: 'r2', stage: 'heating', rank: 8, trainableParameters: 1 } as const;
    store.rounds.insert({ ...round, round: 0, startSha256: sha256('r1 1'), resultSha256: sha256('r2 0') });
    addRun(store, 'unrelated', 2);

    expect(traceSubject(store, 'P1').runs).toEqual([
      { runId: 'r1', rounds: [1], globalAdapters: [sha256('r1 1')] },
      { runId: 'r2', rounds: [], globalAdapters: [sha256('r1 1'), sha256('r2 0')] },
    ]);
  });

  test('refuses an unknown subject', () => {
    using opened = openTestStore();

    expect(() => traceSubject(opened.store, 'P9')).toThrow(
      expect.objectContaining({ code: 'SUBJECT_UNKNOWN' }),
    );
  });
});
