/** Collects embeddings as they are computed, each image once, and looks each query up among them. */
import {
  createGalleryTally,
  type GalleryImage,
  type GalleryQuery,
  meanDirection,
  rankOf,
  unitVector,
} from '../evaluation/gallery.ts';
import type { GalleryCounts } from '../evaluation/gallery-counts.ts';
import type { Example, Gallery } from './trainer-protocol.ts';

export interface GalleryLookup {
  /** Images to compute beside the examples. */
  readonly others: readonly Example[];
  /** @param embedding as the network gives it @param mirrored the mirror image's, of which the mean is taken */
  add(file: string, embedding: Float32Array, mirrored?: Float32Array): void;
  /** @param classes of the run @param pause called between two queries */
  counts(classes: number, pause: () => Promise<void>): Promise<GalleryCounts>;
}

export function createGalleryLookup(examples: readonly Example[], gallery: Gallery): GalleryLookup {
  const known = new Set(examples.map(({ file }) => file));
  const others: Example[] = [];
  for (const { file, sha256, label } of [...gallery.images, ...gallery.rare]) {
    if (known.has(file)) continue;
    known.add(file);
    others.push({ file, label, ...(sha256 === undefined ? {} : { sha256 }) });
  }
  const embeddings = new Map<string, Float32Array | null>();
  const embedded = <T extends { file: string }>(image: T) => ({
    ...image,
    embedding: embeddings.get(image.file) ?? null,
  });
  return {
    others,
    add: (file, embedding, mirrored) =>
      void embeddings.set(
        file,
        mirrored === undefined ? unitVector(embedding) : meanDirection(embedding, mirrored),
      ),
    async counts(classes, pause) {
      const tally = createGalleryTally(classes);
      const all: GalleryImage[] = gallery.images.map(embedded);
      const trained = all.filter(({ label }) => label < classes);
      const size = Math.max(classes, ...gallery.images.map(({ label }) => label + 1));
      const look = async (query: GalleryQuery, among: readonly GalleryImage[], wide: number) => {
        await pause();
        tally.count(query.label, rankOf(query, among, wide));
      };
      for (const example of examples)
        await look({ ...embedded(example), subject: 0, leavesOut: false }, trained, classes);
      for (const query of gallery.rare) await look(embedded(query), all, size);
      return tally.counts();
    },
  };
}
