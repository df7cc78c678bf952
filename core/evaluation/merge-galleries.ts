/** The sum of several sites' galleries, and its figures. Each site looks in its own gallery: only counts are added up. */
import { z } from 'zod';
import type { Share } from './count.ts';
import type { EvaluationCounts } from './counts.ts';
import { type RankKey, rankKeys } from './gallery-counts.ts';

type Ranks<T> = Record<RankKey, T>;

export interface FederatedGallery {
  /** Over the images of the sites that release a rank. */
  whole: Ranks<Share>;
  /** By class index; zeros where no site may release any. */
  perClass: Ranks<Share>[];
  rare: Ranks<Share>;
}

/** Null where no site has counted one. */
export function mergeGalleries(parts: readonly EvaluationCounts[], classes: number): FederatedGallery | null {
  const counted = parts.filter(({ gallery }) => gallery !== undefined);
  if (counted.length === 0) return null;
  const sum = { whole: zeros(), perClass: Array.from({ length: classes }, zeros), rare: zeros() };
  for (const { gallery, total, perClass } of counted) {
    add(sum.whole, gallery!, total);
    add(sum.rare, gallery!.rare, gallery!.rare?.total ?? null);
    for (const [index, row] of (gallery!.perClass ?? []).entries())
      add(sum.perClass[index]!, row, perClass?.[index]?.total ?? null);
  }
  return sum;
}

const zeros = (): Ranks<Share> => {
  const zero = () => ({ total: 0, correct: 0 });
  return { rank1: zero(), rank5: zero(), rank10: zero(), rank30: zero() };
};

function add(sum: Ranks<Share>, found: Ranks<number | null> | null, total: number | null): void {
  if (found === null || total === null) return;
  for (const key of rankKeys) {
    if (found[key] === null) continue;
    sum[key].total += total;
    sum[key].correct += found[key];
  }
}

const share = z.number().min(0).max(1).nullable();
const images = z.number().nonnegative();
const ranksSchema = z.object({ rank1: share, rank5: share, rank10: share, rank30: share });

/** Shares of images whose class is among the nearest 1, 5, 10 or 30 of their site's gallery. */
export const galleryMetricsSchema = z.object({
  ...ranksSchema.shape,
  /** Means over the classes that some site may tell of. */
  overClasses: ranksSchema,
  /** Classes behind these means at rank 1. */
  classes: z.int().nonnegative(),
  /** By class index, at rank 1. */
  perClass: z.array(share),
  /** Of images behind rank 1. */
  total: images,
  /** Of classes that were never trained; null where no site tells of any. */
  rare: ranksSchema.extend({ total: images }).nullable(),
});
export type GalleryMetrics = z.infer<typeof galleryMetricsSchema>;

/** Counts that were scaled are no whole numbers: their sums may be a last digit off. */
const shareOf = ({ total, correct }: Share) => (total === 0 ? null : Math.min(1, correct / total));

export function galleryMetricsOf({ whole, perClass, rare }: FederatedGallery): GalleryMetrics {
  const shares = (counts: Ranks<Share>) => ranksOf((key) => shareOf(counts[key]));
  const shown = (key: RankKey) => perClass.flatMap((row) => shareOf(row[key]) ?? []);
  const mean = (values: readonly number[]) =>
    values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    ...shares(whole),
    overClasses: ranksOf((key) => mean(shown(key))),
    classes: shown('rank1').length,
    perClass: perClass.map((row) => shareOf(row.rank1)),
    total: whole.rank1.total,
    rare: rare.rank1.total === 0 ? null : { ...shares(rare), total: rare.rank1.total },
  };
}

const ranksOf = <T>(of: (key: RankKey) => T): Ranks<T> => ({
  rank1: of('rank1'),
  rank5: of('rank5'),
  rank10: of('rank10'),
  rank30: of('rank30'),
});
