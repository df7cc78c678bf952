/** Which images train and which are held out. */
import { createRandom, mixSeed } from '../shared/random.ts';
import type { Split } from '../store/records.ts';

export interface Splittable {
  /** Anything that names the image, the same in every import. */
  key: string;
  subject: string;
  label: string;
  /** What the CSV says; null leaves it to {@link assignSplits}. */
  split: Split | null;
}

export interface SplitOptions {
  seed: number;
  /** Share of the subjects (or images) of each label that is held out; default 0.25. */
  heldOutShare?: number | undefined;
  /** Splits of subjects that the dataset knows from earlier imports. */
  known?: ReadonlyMap<string, Split> | undefined;
}

/** From this many subjects on, a label is split by subject. */
export const minSubjectsToSplit = 4;

/**
 * Gives every image its split, in the order given. What the CSV says stands. Otherwise a subject that is
 * on one side already (in the CSV or in the dataset) stays there with all its images; labels with at
 * least {@link minSubjectsToSplit} subjects are split by subject, so that no subject is on both sides; of
 * the other labels single images are held out, and at least one is kept for training.
 */
export function assignSplits(images: readonly Splittable[], options: SplitOptions): Split[] {
  const share = options.heldOutShare ?? 0.25;
  const sideOf = new Map<string, Split>(options.known);
  for (const { subject, split } of images) if (split && !sideOf.has(subject)) sideOf.set(subject, split);

  const open = images.filter((image) => image.split === null);
  const labels = [...new Set(images.map(({ label }) => label))].sort();
  const subjectsOf = (label: string) => [
    ...new Set(images.filter((image) => image.label === label).map(({ subject }) => subject)),
  ];
  for (const label of labels) {
    const subjects = subjectsOf(label).sort();
    if (subjects.length < minSubjectsToSplit) continue;
    const held = subjects.filter((subject) => sideOf.get(subject) === 'test').length;
    const free = subjects.filter((subject) => !sideOf.has(subject));
    const random = createRandom(mixSeed(options.seed, 'split', label));
    const more = Math.min(free.length, Math.max(0, Math.round(subjects.length * share) - held));
    random.shuffle(free).forEach((subject, index) => {
      sideOf.set(subject, index < more ? 'test' : 'train');
    });
  }

  const heldOut = new Set<string>();
  for (const label of labels) {
    const loose = open.filter((image) => image.label === label && !sideOf.has(image.subject));
    // Not "images": another word would draw other images than version 0.1.
    const random = createRandom(mixSeed(options.seed, 'split pictures', label));
    const count = Math.min(loose.length - 1, Math.max(1, Math.round(loose.length * share)));
    const keys = random.shuffle(loose.map(({ key }) => key).sort());
    for (const key of keys.slice(0, Math.max(0, count))) heldOut.add(key);
  }
  return images.map(
    ({ key, subject, split }) => split ?? sideOf.get(subject) ?? (heldOut.has(key) ? 'test' : 'train'),
  );
}
