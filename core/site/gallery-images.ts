/**
 * The images that a site's own held-out images are looked up among: those that it may train with now, and those of classes that
 * the run does not train, which are looked up themselves ("rare" classes). Their names stay here.
 */
import type { Alignment } from '../config/alignment.ts';
import { heldOutImages, trainingImages } from '../consent/cohort.ts';
import type { ImageRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';

interface RareQuery {
  image: ImageRecord;
  /** Whether the other images of its subject are left out: its class has no images apart for this. */
  leavesOut: boolean;
}

export interface GalleryImages {
  images: ImageRecord[];
  rare: RareQuery[];
  /** Class number in the gallery by label: the run's classes first. */
  classOf(label: string): number;
}

/**
 * A class without both training and held-out images is looked up one subject after the other, each among the others; with a
 * single subject it only stands in the gallery.
 * @param at ISO 8601 UTC; consents to the purpose are those of this instant
 */
export function galleryImages(
  store: ReadOnlyStore,
  {
    purpose,
    classes,
    at,
    alignment,
  }: { purpose: string; classes: readonly string[]; at: string; alignment: Alignment },
): GalleryImages {
  const request = { runId: '', round: 0, purpose, at, alignment };
  const numbers = new Map(classes.map((label, index) => [label, index]));
  const training = trainingImages(store, request);
  const heldOut = heldOutImages(store, request).filter(({ label }) => !numbers.has(label));
  const trained = training.filter(({ label }) => numbers.has(label));
  const others = [...training.filter(({ label }) => !numbers.has(label)), ...heldOut];
  const images = [...trained];
  const rare: RareQuery[] = [];
  for (const [label, members] of Map.groupBy(others, (image) => image.label)) {
    numbers.set(label, numbers.size);
    const known = members.filter(({ split }) => split === 'train');
    const asked = members.filter(({ split }) => split === 'test');
    const isSplit = known.length > 0 && asked.length > 0;
    images.push(...(isSplit ? known : members));
    const subjects = new Set(members.map(({ subjectId }) => subjectId));
    if (isSplit) rare.push(...asked.map((image) => ({ image, leavesOut: false })));
    else if (subjects.size > 1) rare.push(...members.map((image) => ({ image, leavesOut: true })));
  }
  return { images, rare, classOf: (label) => numbers.get(label)! };
}
