/** Pictures that are nearly the same: asked about, never merged. */
import { hashJson } from '../shared/hash.ts';
import type { HashedImage } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { hashDistance, hashWords } from './picture-hash.ts';

export interface DuplicateQuestion {
  /**
   * `two-subjects`: one person may be here under two pseudonyms, and a withdrawal of one would leave the other.
   * `both-splits`: a picture of the training is held out too, and the evaluation counts what it has learned by heart.
   * `same-split`: the picture counts twice.
   */
  kind: 'two-subjects' | 'both-splits' | 'same-split';
  images: [SimilarImage, SimilarImage];
  /** Bits of 256 in which the pictures' hashes differ. */
  distance: number;
}
export type SimilarImage = Pick<HashedImage, 'id' | 'sourceName' | 'pseudonym' | 'split'>;

/**
 * Copies that were compressed, scaled or brightened differ in up to about 25 bits, as do pictures taken a moment apart;
 * copies that were cut a little differently in up to about 45. Of the AT&T faces, no two of different people differ in
 * fewer than 63 (docs/images.md): between two subjects more may be asked.
 */
const nearlySame = { ofOneSubject: 24, ofTwoSubjects: 48 };
/** A folder of copies would ask a question for each pair: the rest follows from the first ones. */
const mostQuestions = 1000;

/**
 * @param all ready images of a dataset
 * @param before those of them that were there already: pairs among them were asked about before
 */
export function findDuplicates(
  all: readonly HashedImage[],
  before: readonly HashedImage[],
): DuplicateQuestion[] {
  const known = new Set(before.map(({ id }) => id));
  // A picture that was set aside before is new among the ready ones, and has an old number: anywhere in the list.
  const isNew = all.map(({ id }) => !known.has(id));
  const fresh = all.flatMap((_, index) => (isNew[index] ? [index] : []));
  const words = all.map(({ cropHash }) => hashWords(cropHash));
  const questions: DuplicateQuestion[] = [];
  const compare = (earlier: number, later: number) => {
    const [a, b] = [all[earlier]!, all[later]!];
    const most = a.pseudonym === b.pseudonym ? nearlySame.ofOneSubject : nearlySame.ofTwoSubjects;
    const distance = hashDistance(words[earlier]!, words[later]!, most);
    if (distance <= most) questions.push({ kind: kindOf(a, b), images: [similar(a), similar(b)], distance });
  };
  for (let later = 0; later < all.length && questions.length < mostQuestions; later++) {
    if (isNew[later]) for (let earlier = 0; earlier < later; earlier++) compare(earlier, later);
    else for (let at = 0; at < fresh.length && fresh[at]! < later; at++) compare(fresh[at]!, later);
  }
  return questions.slice(0, mostQuestions);
}

/** Answers by what they depend on: all pairs of a large dataset take seconds, and screens ask again and again. */
const answers = new WeakMap<ReadOnlyStore, { of: string; questions: DuplicateQuestion[] }>();

/** All questions about the images that are there. */
export function duplicatesIn(store: ReadOnlyStore): readonly DuplicateQuestion[] {
  const datasets = store.datasets.list().map(({ id }) => store.images.hashes(id));
  const of = hashJson(datasets);
  const known = answers.get(store);
  if (known?.of === of) return known.questions;
  const questions = datasets.flatMap((images) => findDuplicates(images, []));
  answers.set(store, { of, questions });
  return questions;
}

function kindOf(a: HashedImage, b: HashedImage): DuplicateQuestion['kind'] {
  if (a.pseudonym !== b.pseudonym) return 'two-subjects';
  return a.split === b.split ? 'same-split' : 'both-splits';
}

const similar = ({ id, sourceName, pseudonym, split }: HashedImage): SimilarImage => ({
  ...{ id, sourceName, pseudonym, split },
});
