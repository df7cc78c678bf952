/** Where the right class of an image comes in when the classes of a gallery are ordered by their nearest image. */
import { maxCountedClasses } from './count.ts';
import { type GalleryCounts, mapRanks, type RareCounts } from './gallery-counts.ts';

export interface GalleryImage {
  /** Class number in the gallery: the run's classes first, then those that it does not train. */
  label: number;
  /** Whose image it is, by a number that means nothing elsewhere. */
  subject: number;
  /** Of length 1; null for one that is no direction (zero, or not finite). */
  embedding: Float32Array | null;
}

export interface GalleryQuery extends GalleryImage {
  /** Whether other images of its subject are left out of the gallery. */
  leavesOut: boolean;
}

/** The embedding scaled to length 1, in a copy; null where it has no direction. */
export function unitVector(values: Float32Array): Float32Array | null {
  let sum = 0;
  for (const value of values) sum += value * value;
  const norm = Math.sqrt(sum);
  return Number.isFinite(norm) && norm > 0 ? values.map((value) => value / norm) : null;
}

/** What two embeddings have in common: their mean at length 1, itself at length 1; null where there is none. */
export function meanDirection(one: Float32Array, other: Float32Array): Float32Array | null {
  const [a, b] = [unitVector(one), unitVector(other)];
  return a === null || b === null ? null : unitVector(a.map((value, index) => value + b[index]!));
}

/**
 * 1 for an image whose nearest neighbour is of its class. Classes at the same distance come before its own: a network
 * that gives the same embedding for every image finds nothing. Infinite where the class cannot be found at all.
 * @param classes of the gallery
 */
export function rankOf(query: GalleryQuery, gallery: readonly GalleryImage[], classes: number): number {
  if (query.embedding === null) return Number.POSITIVE_INFINITY;
  const nearest = new Float64Array(classes).fill(Number.NEGATIVE_INFINITY);
  for (const { label, subject, embedding } of gallery) {
    if (embedding === null || (query.leavesOut && subject === query.subject)) continue;
    const cosine = dot(query.embedding, embedding);
    if (cosine > nearest[label]!) nearest[label] = cosine;
  }
  const own = nearest[query.label]!;
  if (own === Number.NEGATIVE_INFINITY) return Number.POSITIVE_INFINITY;
  let rank = 1;
  for (let label = 0; label < classes; label++)
    if (label !== query.label && nearest[label]! >= own) rank += 1;
  return rank;
}

function dot(x: Float32Array, y: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}

export interface GalleryTally {
  /** @param label below the number of the run's classes for one of these */
  count(label: number, rank: number): void;
  counts(): GalleryCounts;
}

/** @param classes of the run */
export function createGalleryTally(classes: number): GalleryTally {
  const zeros = () => mapRanks((_, rank) => (classes > rank ? 0 : null));
  const whole = zeros();
  const rare: RareCounts = { total: 0, ...zeros() };
  const perClass = classes <= maxCountedClasses ? Array.from({ length: classes }, zeros) : null;
  return {
    count(label, rank) {
      const isRare = label >= classes;
      if (isRare) rare.total += 1;
      const counted = isRare ? [rare] : perClass === null ? [whole] : [whole, perClass[label]!];
      for (const target of counted) {
        Object.assign(
          target,
          mapRanks((key, within) => (target[key] === null ? null : target[key] + (rank <= within ? 1 : 0))),
        );
      }
    },
    counts: () => ({ ...whole, perClass, rare: rare.total === 0 ? null : rare }),
  };
}
