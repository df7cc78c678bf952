/**
 * How often the right class was among the nearest in a site's gallery, as GestaltMatcher reports it (Hsieh et al. 2022, Nature
 * Genetics 54, 349): the classes are ordered by their nearest image, by the cosine of the embeddings. Counts only.
 */
import { z } from 'zod';
import { imageCount, maxCountedClasses } from './count.ts';

/** Numbers of classes among which the right one is looked for. */
export const galleryRanks = [1, 5, 10, 30] as const;
export type GalleryRank = (typeof galleryRanks)[number];
export type RankKey = `rank${GalleryRank}`;
export const rankKeys: readonly RankKey[] = galleryRanks.map((rank) => `rank${rank}` as const);

const hits = imageCount.nullable();
/** Images whose class was among the nearest so many; null where withheld, and where a run has no more classes than that. */
const rankShape = { rank1: hits, rank5: hits, rank10: hits, rank30: hits };
export const rankCountsSchema = z.strictObject(rankShape);
export type RankCounts = z.infer<typeof rankCountsSchema>;

/** Classes of the site that the run does not train, looked for among these and the run's own. */
const rareCountsSchema = z.strictObject({ total: imageCount, ...rankShape });
export type RareCounts = z.infer<typeof rareCountsSchema>;

/**
 * Of the held-out images of the run's classes, which `EvaluationCounts` numbers in all and by class. An image whose class has
 * no other image in the gallery counts as not found.
 */
export const galleryCountsSchema = z.strictObject({
  ...rankShape,
  /** By class index; null where it was withheld. */
  perClass: z.array(rankCountsSchema.nullable()).max(maxCountedClasses).nullable(),
  /** Over all such classes: how many they are, and what they are called, stays at the site. Null without any. */
  rare: rareCountsSchema.nullable(),
});
export type GalleryCounts = z.infer<typeof galleryCountsSchema>;

export const noRanks: RankCounts = { rank1: null, rank5: null, rank10: null, rank30: null };

/** Each of the four; `key` and `rank` say which. */
export const mapRanks = (of: (key: RankKey, rank: GalleryRank) => number | null): RankCounts => ({
  rank1: of('rank1', 1),
  rank5: of('rank5', 5),
  rank10: of('rank10', 10),
  rank30: of('rank30', 30),
});
