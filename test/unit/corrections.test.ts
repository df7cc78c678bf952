import { describe, expect, test } from 'vitest';
import type { CorrectionInput } from '../../core/config/correction.ts';
import {
  cohortsTouchedBySubject,
  freezeCohort,
  hasLostConsent,
  isOutdated,
} from '../../core/consent/cohort.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { correctImages, correctionHash, reviewCorrection } from '../../core/data/corrections.ts';
import { canonicalJson } from '../../core/shared/hash.ts';
import type { Store } from '../../core/store/store.ts';
import { addImage, openTestStore } from '../fixtures/store.ts';

const purpose = 'federated-training';
const setting = { classes: ['a', 'b'], purpose, actor: 'anna' };
const agree = (store: Store, pseudonym: string) =>
  recordConsent(store, {
    pseudonym,
    purpose,
    documentVersion: '1',
    validFrom: '2026-01-01',
    recordedBy: 'desk',
  });
const correct = (store: Store, input: Partial<CorrectionInput>) =>
  correctImages(store, { pseudonym: 'P1', reason: 'typing-error', ...input }, setting);
const kinds = (store: Store, input: Partial<CorrectionInput>, classes: string[] | null = setting.classes) =>
  reviewCorrection(
    store,
    { pseudonym: 'P1', reason: 'typing-error', ...input },
    { ...setting, classes },
  ).questions.map(({ kind }) => kind);

/** P1 with two training images, P2 with one, P3 held out; all agree. */
function openFilled() {
  const opened = openTestStore();
  const { store } = opened;
  const images = {
    one: addImage(store, 'P1', 'one'),
    two: addImage(store, 'P1', 'two'),
    other: addImage(store, 'P2', 'other'),
    held: addImage(store, 'P3', 'held', { split: 'test' }),
  };
  for (const pseudonym of ['P1', 'P2', 'P3']) agree(store, pseudonym);
  return { ...opened, store, images, [Symbol.dispose]: () => opened[Symbol.dispose]() };
}

describe('a correction', () => {
  test('of a label changes the images that were chosen, and is kept with its reason', () => {
    using world = openFilled();
    const { store, images } = world;

    expect(correct(store, { images: [images.one], label: 'b', note: 'Read from the letter' })).toMatchObject({
      changes: 1,
    });

    expect(store.images.get(images.one)!.label).toBe('b');
    expect(store.images.get(images.two)!.label).toBe('a');
    const [row] = store.imageCorrections.ofSubject(store.subjects.byPseudonym('P1')!.id);
    expect(row).toMatchObject({
      imageId: images.one,
      label: 'a',
      newLabel: 'b',
      note: 'Read from the letter',
    });
    const audited = store.audit.newestOf('image.corrected')!;
    expect(audited).toMatchObject({
      actor: 'anna',
      details: {
        subject: store.subjects.refOf('P1'),
        images: 1,
        corrected: ['label'],
        reason: 'typing-error',
        correction: correctionHash(store, row!.act),
      },
    });
    expect(canonicalJson(audited.details)).not.toMatch(/P1|one\.png|letter/);
  });

  test('that changes nothing leaves no trace', () => {
    using world = openFilled();
    expect(correct(world.store, { label: 'a' })).toEqual({ changes: 0, questions: [] });
    expect(world.store.audit.newestOf('image.corrected')).toBeNull();
  });

  test('of the split takes all images of the subject along', () => {
    using world = openFilled();
    correct(world.store, { split: 'test' });
    expect(world.store.images.list().map(({ split }) => split)).toEqual(['test', 'test', 'train', 'test']);
    expect(() => correct(world.store, { split: 'train', images: [world.images.one] })).toThrow(/as a whole/);
  });

  test.each([
    ['an unknown subject', { pseudonym: 'P9', label: 'b' }, 'SUBJECT_UNKNOWN'],
    ['an unknown other subject', { subject: 'P9' }, 'SUBJECT_UNKNOWN'],
    ['an image of another subject', { images: [3], label: 'b' }, 'NOT_FOUND'],
    ['nothing to correct', {}, 'CONFIG_INVALID'],
    ['another reason without a description', { label: 'b', reason: 'other' }, 'CONFIG_INVALID'],
    ['a field that is not known', { label: 'b', labels: ['b'] }, 'CONFIG_INVALID'],
    ['a label that the run does not have', { label: 'c' }, 'CONFIRMATION_NEEDED'],
  ] as const)('of %s is refused, and nothing changes', (_what, input, code) => {
    using world = openFilled();
    const before = world.store.images.list();
    expect(() => correct(world.store, input as Partial<CorrectionInput>)).toThrow(
      expect.objectContaining({ code }),
    );
    expect(world.store.images.list()).toEqual(before);
    expect(world.store.audit.newestOf('image.corrected')).toBeNull();
  });

  test('asks about what may be a mistake, and does it when told to', () => {
    using world = openFilled();
    const { store, images } = world;
    expect(kinds(store, { label: 'c' })).toEqual(['label-not-in-run']);
    expect(kinds(store, { label: 'c' }, null)).toEqual(['label-new']);
    expect(kinds(store, { label: 'b' })).toEqual([]);
    expect(kinds(store, { subject: 'P2' })).toEqual([]);
    expect(kinds(store, { subject: 'P3' })).toEqual(['other-split']);
    store.subjects.upsert({ pseudonym: 'P4' });
    addImage(store, 'P4', 'never asked');
    expect(kinds(store, { pseudonym: 'P4', subject: 'P1' })).toEqual(['used-again']);
    freezeCohort(store, { runId: 'r1', round: 0, purpose });
    expect(kinds(store, { subject: 'P3' })).toEqual(['other-split', 'was-trained']);
    withdrawConsent(store, { pseudonym: 'P3', recordedBy: 'desk' });
    const confirmed = kinds(store, { subject: 'P3', images: [images.one] });
    expect(confirmed).toEqual(['other-split', 'was-trained', 'without-consent']);
    expect(() =>
      correct(store, { subject: 'P3', images: [images.one], confirmed: confirmed.slice(1) }),
    ).toThrow(/would change sides/);

    correct(store, { subject: 'P3', images: [images.one], confirmed });

    expect(store.images.get(images.one)).toMatchObject({ pseudonym: 'P3', split: 'test' });
    expect(store.audit.newestOf('image.corrected')!.details).toMatchObject({
      corrected: ['subject', 'split'],
      newSubject: store.subjects.refOf('P3'),
      newSplit: 'test',
    });
  });
});

describe('a cohort after a correction', () => {
  test.each([
    ['another label', { label: 'b' }],
    ['another subject', { subject: 'P2' }],
    ['held out', { split: 'test', confirmed: ['was-trained'] }],
  ] as const)('%s is outdated, and frozen anew', (_what, input) => {
    using world = openFilled();
    const { store } = world;
    const before = freezeCohort(store, { runId: 'r1', round: 0, purpose });
    expect(isOutdated(store, before.cohortId)).toBe(false);

    correct(store, input as Partial<CorrectionInput>);

    expect(isOutdated(store, before.cohortId)).toBe(true);
    const after = freezeCohort(store, { runId: 'r1', round: 0, purpose });
    expect(after.sha256).not.toBe(before.sha256);
    expect(isOutdated(store, after.cohortId)).toBe(false);
    expect(store.cohorts.get(before.cohortId)!.superseded).toBe(true);
  });

  test('is outdated only by corrections of its own images, and not when they were taken back', () => {
    using world = openFilled();
    const { store, images } = world;
    withdrawConsent(store, { pseudonym: 'P2', recordedBy: 'desk' });
    const { cohortId } = freezeCohort(store, { runId: 'r1', round: 0, purpose });
    correct(store, { pseudonym: 'P2', images: [images.other], label: 'b' });
    expect(isOutdated(store, cohortId)).toBe(false);
    correct(store, { label: 'b' });
    expect(isOutdated(store, cohortId)).toBe(true);
    correct(store, { label: 'a' });
    expect(isOutdated(store, cohortId)).toBe(false);
  });

  test('needs the consent of the person whom its images show now, and is in the trace of both', () => {
    using world = openFilled();
    const { store, images } = world;
    const { cohortId } = freezeCohort(store, { runId: 'r1', round: 0, purpose });
    withdrawConsent(store, { pseudonym: 'P3', recordedBy: 'desk' });
    expect(hasLostConsent(store, cohortId)).toBe(false);
    correct(store, {
      images: [images.one],
      subject: 'P3',
      confirmed: ['other-split', 'was-trained', 'without-consent'],
    });
    expect(hasLostConsent(store, cohortId)).toBe(true);
    for (const pseudonym of ['P1', 'P3'])
      expect(cohortsTouchedBySubject(store, pseudonym).map(({ id }) => id)).toEqual([cohortId]);
  });
});
