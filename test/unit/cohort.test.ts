import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cohortsTouchedBySubject,
  freezeCohort,
  heldOutImages,
  recordEvaluationCohort,
} from '../../core/consent/cohort.ts';
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

    const version = (round: number, ...uses: string[]) => ({ round, sha256: sha256(`r1 ${round}`), uses });
    expect(traceSubject(store, 'P1')).toEqual({
      pseudonym: 'P1',
      runs: [{ runId: 'r1', rounds: [1], versions: [version(1, 'trained'), version(2, 'descends')] }],
    });
    expect(traceSubject(store, 'P2').runs).toEqual([
      {
        runId: 'r1',
        rounds: [0, 1, 2],
        versions: [version(0, 'trained'), version(1, 'trained'), version(2, 'trained')],
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
      {
        runId: 'r1',
        rounds: [1],
        versions: [{ round: 1, sha256: sha256('r1 1'), uses: ['trained'] }],
      },
      {
        runId: 'r2',
        rounds: [],
        versions: [
          { round: -1, sha256: sha256('r1 1'), uses: ['descends'] },
          { round: 0, sha256: sha256('r2 0'), uses: ['descends'] },
        ],
      },
    ]);
  });

  test('names the result of the last round, which starts no other, once the coordinator has named it', () => {
    using opened = prepare();
    const { store } = opened;
    freeze(store, 2);

    const unknown = traceSubject(store, 'P1').runs;
    store.modelVersions.learn({ runId: 'r1', round: 2, sha256: sha256('published') });

    expect(unknown).toMatchObject([{ versions: [{ round: 2, sha256: null, uses: ['trained'] }] }]);
    expect(traceSubject(store, 'P1').runs).toMatchObject([
      { versions: [{ round: 2, sha256: sha256('published'), uses: ['trained'] }] },
    ]);
  });

  test('names what was evaluated on its held-out images, and what builds upon that, apart', () => {
    using opened = prepare();
    const { store } = opened;
    addImage(store, 'P3', 'held-out', { split: 'test' });
    agree(store, 'P3');
    addRun(store, 'r2', 1);
    store.rounds.update('r2', 0, { resultSha256: sha256('r2 0') });
    store.modelVersions.learn({ runId: 'r2', round: -1, sha256: sha256('r1 1') });
    const images = heldOutImages(store, { purpose, at: store.now() });

    const isRecorded = recordEvaluationCohort(
      store,
      { runId: 'r1', stateSha256: sha256('r1 0'), purpose },
      images,
    );

    expect(isRecorded).toBe(true);
    expect(traceSubject(store, 'P3').runs).toEqual([
      {
        runId: 'r1',
        rounds: [],
        versions: [
          { round: 0, sha256: sha256('r1 0'), uses: ['evaluated'] },
          { round: 1, sha256: sha256('r1 1'), uses: ['after-evaluated'] },
        ],
      },
      {
        runId: 'r2',
        rounds: [],
        versions: [
          { round: -1, sha256: sha256('r1 1'), uses: ['after-evaluated'] },
          // addRun gives the run another start of its own as well.
          { round: -1, sha256: sha256('r2 -1'), uses: ['after-evaluated'] },
          { round: 0, sha256: sha256('r2 0'), uses: ['after-evaluated'] },
        ],
      },
    ]);
    expect(traceSubject(store, 'P1').runs).toEqual([]);
    expect(store.audit.page({ limit: 1 })[0]).toMatchObject({
      action: 'cohort.evaluated',
      details: { images: 1, subjects: 1, state: sha256('r1 0') },
    });
  });

  test('counts of somebody who withdrew meanwhile are not recorded as sent', () => {
    using opened = prepare();
    const { store } = opened;
    addImage(store, 'P3', 'held-out', { split: 'test' });
    agree(store, 'P3');
    const images = heldOutImages(store, { purpose, at: store.now() });
    withdraw(store, 'P3');

    const what = { runId: 'r1', stateSha256: sha256('r1 0'), purpose };

    expect(recordEvaluationCohort(store, what, images)).toBe(false);
    expect(store.evaluationCohorts.ofRun('r1')).toEqual([]);
  });

  test('of an older version names what may have been evaluated on it: by consent and time of the evaluation', () => {
    using opened = prepare();
    const { store, clock } = opened;
    addImage(store, 'P3', 'held-out', { split: 'test', importedAt: '2026-01-01T00:00:00.000Z' });
    addImage(store, 'P4', 'without consent', { split: 'test', importedAt: '2026-01-01T00:00:00.000Z' });
    addImage(store, 'P5', 'imported later', { split: 'test', importedAt: '2026-11-23T00:00:00.000Z' });
    agree(store, 'P3');
    agree(store, 'P5');
    clock.now = new Date('2026-11-22T13:00:00.000Z');
    const counted = { siteId: 's1', correct: 1, total: 2 };
    store.evaluations.upsert({ runId: 'r1', stateSha256: sha256('r1 0'), ...counted });
    clock.now = new Date('2026-11-24T13:00:00.000Z');
    withdraw(store, 'P3');
    store.evaluations.upsert({ runId: 'r1', stateSha256: sha256('r1 1'), ...counted });

    expect(traceSubject(store, 'P3').runs[0]?.versions).toEqual([
      { round: 0, sha256: sha256('r1 0'), uses: ['maybe-evaluated'] },
      { round: 1, sha256: sha256('r1 1'), uses: ['after-evaluated'] },
    ]);
    expect(traceSubject(store, 'P4').runs).toEqual([]);
    expect(traceSubject(store, 'P5').runs[0]?.versions).toMatchObject([
      { round: 1, uses: ['maybe-evaluated'] },
    ]);
  });

  test('refuses an unknown subject', () => {
    using opened = openTestStore();

    expect(() => traceSubject(opened.store, 'P9')).toThrow(
      expect.objectContaining({ code: 'SUBJECT_UNKNOWN' }),
    );
  });
});
