/** Correcting a label, a subject or a split: an act of its own, with a reason, checked and audited. */
import { randomUUID } from 'node:crypto';
import { type Correction, type CorrectionQuestionKind, correctionSchema } from '../config/correction.ts';
import { type ConsentStatus, consentStatus } from '../consent/consent.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { pick } from '../shared/pick.ts';
import { plural } from '../shared/text.ts';
import type { ImageRecord, Split } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';

export interface CorrectionQuestion {
  kind: CorrectionQuestionKind;
  /** One sentence. */
  words: string;
}

/** What a correction would do. */
export interface CorrectionReview {
  /** Images that would change. */
  changes: number;
  /** That somebody must answer with yes first. */
  questions: CorrectionQuestion[];
}

/** What of the run in progress decides about labels and consents. */
export interface CorrectionSetting {
  /** Classes of the run in progress; null when there is none. */
  classes: readonly string[] | null;
  purpose: string;
}

interface Change {
  image: ImageRecord;
  after: Pick<ImageRecord, 'subjectId' | 'label' | 'split'>;
}

/** @throws AppError SUBJECT_UNKNOWN | NOT_FOUND (an image that is not the subject's) | CONFIG_INVALID */
export function reviewCorrection(
  store: ReadOnlyStore,
  input: unknown,
  setting: CorrectionSetting,
): CorrectionReview {
  const correction = understood(input);
  const changes = changesOf(store, correction);
  return { changes: changes.length, questions: questionsAbout(store, correction, changes, setting) };
}

/**
 * All images change, or none. A round that is training on one of them starts again.
 * @throws AppError as {@link reviewCorrection}; CONFIRMATION_NEEDED when a question was not answered
 */
export function correctImages(
  store: Store,
  input: unknown,
  { actor, ...setting }: CorrectionSetting & { actor: string },
): CorrectionReview {
  const correction = understood(input);
  return store.transaction(() => {
    const changes = changesOf(store, correction);
    const questions = questionsAbout(store, correction, changes, setting);
    const open = questions.filter(({ kind }) => !correction.confirmed.includes(kind));
    if (open.length > 0)
      throw new AppError('CONFIRMATION_NEEDED', open.map(({ words }) => words).join(' '), {
        action: 'If this is right, confirm it; on the command line with --yes.',
      });
    if (changes.length > 0) record(store, correction, changes, actor);
    return { changes: changes.length, questions };
  });
}

function understood(input: unknown): Correction {
  const parsed = correctionSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  const about =
    path.length === 0 ? 'The correction is incomplete' : `The correction's ${path.join('.')} is invalid`;
  throw new AppError('CONFIG_INVALID', `${about}: ${message}.`, { cause: parsed.error });
}

function changesOf(store: ReadOnlyStore, correction: Correction): Change[] {
  const { label, split } = correction;
  const images = chosenImages(store, correction);
  const to = correction.subject === undefined ? null : subjectOf(store, correction.subject);
  const sideOfOther = to === null ? null : sideOf(store.images.list({ subjectId: to.id }));
  return images
    .map((image) => ({
      image,
      after: {
        subjectId: to?.id ?? image.subjectId,
        label: label ?? image.label,
        // One person is never on both sides: what was learnt by heart would count as recognised.
        split: split ?? sideOfOther ?? image.split,
      },
    }))
    .filter(({ image, after }) => hashJson(after) !== hashJson(stateOf(image)));
}

const stateOf = (image: ImageRecord) => pick(image, 'subjectId', 'label', 'split');

function chosenImages(store: ReadOnlyStore, { pseudonym, images: chosen }: Correction): ImageRecord[] {
  const all = store.images.list({ subjectId: subjectOf(store, pseudonym).id });
  if (chosen === undefined) return all;
  const wanted = new Set(chosen);
  const images = all.filter(({ id }) => wanted.has(id));
  if (images.length < wanted.size)
    throw new AppError('NOT_FOUND', 'An image that was chosen is not an image of this subject any more.');
  return images;
}

function subjectOf(store: ReadOnlyStore, pseudonym: string) {
  const subject = store.subjects.byPseudonym(pseudonym);
  if (subject === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${pseudonym}".`);
  return subject;
}

/** Where all of a subject's images are; null when there are none, or on both sides. */
function sideOf(images: readonly ImageRecord[]): Split | null {
  const sides = new Set(images.map(({ split }) => split));
  return sides.size === 1 ? [...sides][0]! : null;
}

const sideWords: Record<Split, string> = { train: 'used for training', test: 'held out' };

function questionsAbout(
  store: ReadOnlyStore,
  { pseudonym, label, subject }: Correction,
  changes: readonly Change[],
  { classes, purpose }: CorrectionSetting,
): CorrectionQuestion[] {
  const questions: CorrectionQuestion[] = [];
  if (label !== undefined && changes.length > 0) {
    if (classes !== null && !classes.includes(label))
      questions.push({
        kind: 'label-not-in-run',
        words: `The run in progress has no class "${label}" (it has ${classes.join(', ')}): it would not use these images.`,
      });
    else if (classes === null && store.images.list({ label }).length === 0)
      questions.push({ kind: 'label-new', words: `No image has the label "${label}" yet.` });
  }
  const moved = changes.filter(({ image, after }) => image.split !== after.split);
  if (subject !== undefined && moved.length > 0) {
    const words = `The images of "${subject}" are ${sideWords[moved[0]!.after.split]}: ${plural(moved.length, 'image')} would change sides.`;
    questions.push({ kind: 'other-split', words });
  }
  const learnt = moved.filter(({ image, after }) => after.split === 'test' && wasTrained(store, image));
  if (learnt.length > 0)
    questions.push({
      kind: 'was-trained',
      words: `${plural(learnt.length, 'image')} took part in training already: held out, they make the shared model look better than it is.`,
    });
  if (subject !== undefined && changes.length > 0) {
    const [before, after] = [pseudonym, subject].map((name) => statusOf(store, name, purpose));
    if (after !== 'active')
      questions.push({
        kind: 'without-consent',
        words: `"${subject}" has no active consent to "${purpose}": these images would not be used.`,
      });
    // Giving images to somebody else must be no way round a withdrawal.
    else if (before !== 'active')
      questions.push({
        kind: 'used-again',
        words: `"${pseudonym}" has no active consent to "${purpose}" and "${subject}" has: these images would be used from now on.`,
      });
  }
  return questions;
}

function wasTrained(store: ReadOnlyStore, { id }: ImageRecord): boolean {
  return store.cohorts.byImage(id).some(({ superseded }) => !superseded);
}

function statusOf(store: ReadOnlyStore, pseudonym: string, purpose: string): ConsentStatus {
  const events = store.consentEvents.ofSubject(subjectOf(store, pseudonym).id);
  return consentStatus(events, purpose, store.clock.latest());
}

/**
 * The audit row names subjects by their keyed hashes, says what was changed and why, and carries the hash of the rows that
 * hold labels and note (with the random name of the act in them, so that it cannot be guessed): they can be erased, and
 * until then nobody can change them unseen.
 */
function record(store: Store, correction: Correction, changes: readonly Change[], actor: string): void {
  const { reason, note = null, pseudonym, subject } = correction;
  const act = randomUUID();
  const correctedAt = store.now();
  for (const { image, after } of changes) {
    store.images.correct(image.id, after);
    store.imageCorrections.insert({
      act,
      imageId: image.id,
      subjectId: image.subjectId,
      newSubjectId: after.subjectId,
      label: image.label,
      newLabel: after.label,
      split: image.split,
      newSplit: after.split,
      reason,
      note: note === '' ? null : note,
      correctedAt,
      correctedBy: actor,
    });
  }
  const differs = (key: keyof Change['after']) =>
    changes.some(({ image, after }) => image[key] !== after[key]);
  store.audit.append({
    actor,
    action: 'image.corrected',
    details: {
      subject: store.subjects.refOf(pseudonym),
      images: changes.length,
      corrected: [
        ...(differs('label') ? ['label'] : []),
        ...(differs('subjectId') ? ['subject'] : []),
        ...(differs('split') ? ['split'] : []),
      ],
      ...(subject !== undefined && { newSubject: store.subjects.refOf(subject) }),
      ...(differs('split') && {
        newSplit: changes.find(({ image, after }) => image.split !== after.split)!.after.split,
      }),
      reason,
      correction: correctionHash(store, act),
    },
  });
}

/** What the audit row of an act carries: the hash of its rows. */
export function correctionHash(store: ReadOnlyStore, act: string): string {
  return hashJson(store.imageCorrections.ofAct(act));
}
