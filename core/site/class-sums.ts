/**
 * Of whom a site gives class sums (docs/security.md, "Class means"). Two sums of one class that differ by fewer people than the
 * smallest cell tell these people's templates to whoever has both, whatever run each belongs to. So what has left once decides
 * what may leave next: the same people again, or a difference of enough.
 */

/** Of one class: the person behind each image, by their ids. */
export type ClassImages = ReadonlyMap<number, number>;

/** By label. */
export type ImagesByLabel = ReadonlyMap<string, ClassImages>;

export interface EarlierCohort {
  /** Of which sums were announced; by label as it was then. Null where nobody can say any more. */
  readonly images: ImagesByLabel | null;
  /** False when somebody who was in it was erased since. */
  readonly isWhole: boolean;
  readonly smallCell: number;
}

interface SentSum {
  readonly images: ClassImages;
  readonly isWhole: boolean;
}

/** People whose part in a sum is not the same in both: they joined, left, or have other images. */
export function changedPeople(one: ClassImages, other: ClassImages): number {
  const changed = new Set<number>();
  for (const [image, person] of one) if (other.get(image) !== person) changed.add(person);
  for (const [image, person] of other) if (one.get(image) !== person) changed.add(person);
  return changed.size;
}

const peopleIn = (images: ClassImages): number => new Set(images.values()).size;

const isPartOf = (part: ClassImages, whole: ClassImages): boolean =>
  [...part].every(([image, person]) => whole.get(image) === person);

/**
 * The images of each class whose sum may leave now: all of them, or those of the newest earlier sum that are all still there
 * until enough people have joined, or none.
 * @param earlier in the order in which their sums were announced; of the same base model
 */
export function admittedSums(
  now: ImagesByLabel,
  earlier: readonly EarlierCohort[],
  smallCell: number,
): ImagesByLabel {
  const sent = new Map<string, SentSum[]>();
  for (const cohort of earlier) {
    if (cohort.images === null) return new Map();
    for (const [label, images] of admitted(cohort.images, sent, cohort.smallCell)) {
      const before = sent.get(label) ?? [];
      sent.set(label, [...before, { images, isWhole: cohort.isWhole }]);
    }
  }
  return new Map(admitted(now, sent, smallCell));
}

function* admitted(
  now: ImagesByLabel,
  sent: ReadonlyMap<string, readonly SentSum[]>,
  smallCell: number,
): Generator<[string, ClassImages]> {
  for (const [label, images] of now) {
    const before = sent.get(label) ?? [];
    const again = before.filter((sum) => sum.isWhole && isPartOf(sum.images, images)).reverse();
    const chosen = [images, ...again.map((sum) => sum.images)].find(
      (candidate) =>
        peopleIn(candidate) >= smallCell && before.every((sum) => isApart(candidate, sum, smallCell)),
    );
    if (chosen !== undefined) yield [label, chosen];
  }
}

/** Nothing may be the same but for an erased person either: that person would be the difference. */
function isApart(candidate: ClassImages, { images, isWhole }: SentSum, smallCell: number): boolean {
  const changed = changedPeople(candidate, images);
  return changed >= smallCell || (changed === 0 && isWhole);
}
