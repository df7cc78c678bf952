import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { evaluationCountsSchema } from '../../core/evaluation/check-counts.ts';
import { coarseCounts } from '../../core/evaluation/coarse-counts.ts';
import type { EvaluationCounts } from '../../core/evaluation/counts.ts';
import {
  createGalleryTally,
  type GalleryImage,
  type GalleryQuery,
  rankOf,
  unitVector,
} from '../../core/evaluation/gallery.ts';
import { type RankCounts, rankKeys } from '../../core/evaluation/gallery-counts.ts';
import { mergeCounts } from '../../core/evaluation/merge-counts.ts';
import { metricsOf } from '../../core/evaluation/metrics.ts';
import { scaleCounts } from '../../core/evaluation/scale-counts.ts';
import { suppressSmallCells } from '../../core/evaluation/suppress-small-cells.ts';
import { createRandom } from '../../core/shared/random.ts';
import { evaluated } from '../fixtures/evaluation/evaluated.ts';

const at = (label: number, degrees: number, subject = 0): GalleryImage => {
  const radians = (degrees * Math.PI) / 180;
  return { label, subject, embedding: Float32Array.of(Math.cos(radians), Math.sin(radians)) };
};
const query = (label: number, degrees: number, subject = 100, leavesOut = false): GalleryQuery => ({
  ...at(label, degrees, subject),
  leavesOut,
});

describe('the rank of an image', () => {
  const gallery = [at(0, 0), at(0, 80), at(1, 30), at(2, 50), at(2, 200)];

  test.each([
    ['its class is nearest', query(1, 28), 1],
    ['by the nearest image of a class, not by its mean', query(0, 78), 1],
    ['two classes are nearer', query(2, 10), 3],
  ])('%s', (_what, image, rank) => {
    expect(rankOf(image, gallery, 3)).toBe(rank);
  });

  test('is none where its class has no image', () => {
    expect(rankOf(query(3, 0), gallery, 4)).toBe(Number.POSITIVE_INFINITY);
  });

  test('leaves the images of its own subject out where asked', () => {
    const both = [at(0, 0, 7), at(0, 90, 8), at(1, 20, 9)];

    expect(rankOf(query(0, 0, 7), both, 2)).toBe(1);
    expect(rankOf(query(0, 0, 7, true), both, 2)).toBe(2);
  });

  test('of a network that gives the same for every image is the last', () => {
    const alike = [0, 1, 2].map((label) => at(label, 45));

    expect(rankOf(query(0, 45), alike, 3)).toBe(3);
  });

  test.each([[Float32Array.of(0, 0)], [Float32Array.of(Number.NaN, 1)], [Float32Array.of(Infinity, 0)]])(
    'of an embedding without a direction is none: %s',
    (values) => {
      expect(rankOf({ ...query(0, 0), embedding: unitVector(values) }, gallery, 3)).toBe(
        Number.POSITIVE_INFINITY,
      );
      expect(rankOf(query(1, 28), [...gallery, { ...at(0, 0), embedding: unitVector(values) }], 3)).toBe(1);
    },
  );

  test('does not depend on the length of embeddings', () => {
    const long = unitVector(Float32Array.of(1e6, 1e6))!;

    expect(long[0]).toBeCloseTo(Math.SQRT1_2, 6);
    expect(rankOf({ ...query(2, 0), embedding: long }, gallery, 3)).toBe(1);
  });
});

/** Counts of an evaluation with a gallery beside: ranks drawn, mostly near. */
const withGallery = (classes: number, largest = 40) =>
  fc
    .tuple(
      evaluated(classes, largest),
      fc.infiniteStream(fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 }))),
      fc.nat(30),
    )
    .map(([counts, ranks, rare]): EvaluationCounts => {
      const tally = createGalleryTally(classes);
      for (const [label, row] of counts.perClass!.entries())
        for (let i = 0; i < row.total!; i++) tally.count(label, ranks.next().value as number);
      for (let i = 0; i < rare; i++) tally.count(classes, ranks.next().value as number);
      return { ...counts, gallery: tally.counts() };
    });

const cellsOf = (ranks: RankCounts, total: number) => {
  const bounds = [0, ...rankKeys.flatMap((key) => ranks[key] ?? []), total];
  return bounds.slice(1).map((bound, index) => bound - bounds[index]!);
};

describe('what leaves a site of its gallery', () => {
  test.each([4, 7, 12, 32])('has no small cell, and none as a difference: %i classes', (classes) => {
    let rows = 0;
    fc.assert(
      fc.property(withGallery(classes), fc.integer({ min: 3, max: 12 }), (counts, k) => {
        const shown = suppressSmallCells(counts, k);

        expect(evaluationCountsSchema.parse(shown)).toEqual(shown);
        const { gallery, total, perClass } = shown;
        const cells = cellsOf(gallery!, total);
        if (gallery!.rare !== null) cells.push(...cellsOf(gallery!.rare, gallery!.rare.total));
        const released = (gallery!.perClass ?? []).flatMap((row, index) =>
          row === null ? [] : [{ row, index }],
        );
        rows += released.length;
        for (const { row, index } of released) cells.push(...cellsOf(row, perClass![index]!.total!));
        // What is not released has a known sum at every released rank.
        const keys = rankKeys.filter((key) => released.some(({ row }) => row[key] !== null));
        if (released.length > 0 && released.length < classes) {
          const hidden = counts.gallery!.perClass!.flatMap((row, index) =>
            gallery!.perClass![index] === null ? [{ row: row!, total: counts.perClass![index]!.total! }] : [],
          );
          for (const [column] of [...keys, null].entries()) {
            const sum = hidden.reduce((known, { row, total: images }) => {
              const bounds = [0, ...keys.map((key) => row[key]!), images];
              return known + bounds[column + 1]! - bounds[column]!;
            }, 0);
            cells.push(sum);
          }
        }
        expect(cells.filter((cell) => cell < 0 || (cell > 0 && cell < k))).toEqual([]);
      }),
      { numRuns: classes > 30 ? 25 : 150 },
    );
    if (classes < 12) expect(rows).toBeGreaterThan(0);
  });

  test('is exact where nothing has to be hidden', () => {
    const tally = createGalleryTally(6);
    const rows = Array.from({ length: 6 }, () => ({ total: 40, correct: 20, predicted: 40 }));
    for (let label = 0; label < 6; label++)
      for (let i = 0; i < 40; i++) tally.count(label, i < 20 ? 1 : i < 30 ? 3 : 6);
    const gallery = tally.counts();
    const counts = { smallCell: 1, classes: 6, total: 240, correct: 120, top5: 240, perClass: rows };

    const shown = suppressSmallCells({ ...counts, calibration: [], scores: null, gallery }, 5);

    expect(shown.gallery).toEqual({ ...gallery, rare: null });
    expect(gallery).toMatchObject({ rank1: 120, rank5: 180, rank10: null, rank30: null });
  });

  test('during a run is the nearest neighbour alone, with noise and in multiples of k', () => {
    fc.assert(
      fc.property(withGallery(7), fc.integer({ min: 3, max: 12 }), fc.integer(), (counts, k, seed) => {
        const shown = coarseCounts(counts, k, createRandom(seed));

        expect(evaluationCountsSchema.parse(shown)).toEqual(shown);
        const { perClass, rank5, rank10, rank30, rank1, rare } = shown.gallery!;
        expect([perClass, rank5, rank10, rank30]).toEqual([null, null, null, null]);
        expect([rank1 ?? 0, rare?.rank1 ?? 0, rare?.total ?? 0].every((cell) => cell % k === 0)).toBe(true);
      }),
      { numRuns: 100 },
    );
    const [counts] = fc.sample(withGallery(7, 200), { numRuns: 1, seed: 4 });
    const noisy = Array.from(
      { length: 30 },
      (_, seed) => coarseCounts(counts!, 5, createRandom(seed)).gallery!.rank1,
    );
    expect(new Set(noisy).size).toBeGreaterThan(3);
  });

  const good = () => {
    const [counts] = fc.sample(withGallery(7, 60), { numRuns: 1, seed: 9 });
    return structuredClone(counts!);
  };

  type Gallery = NonNullable<EvaluationCounts['gallery']>;
  test.each<[string, (gallery: Gallery, total: number) => Partial<Gallery>]>([
    ['more found than images', (_, total) => ({ rank5: total + 1 })],
    ['fewer found among more classes', ({ rank5 }) => ({ rank1: rank5! + 1 })],
    ['rows of other classes', ({ perClass }) => ({ perClass: perClass!.slice(1) })],
    [
      'a class found more often than it has images',
      ({ perClass }) => ({ perClass: perClass!.with(0, { ...perClass![0]!, rank5: 1e6 }) }),
    ],
    ['classes that do not add up', ({ rank1 }) => ({ rank1: rank1! - 1 })],
    [
      'rare images that are found more often than there are',
      ({ rare }) => ({ rare: { ...rare!, rank1: 1e6 } }),
    ],
  ])('is refused with %s', (_what, spoil) => {
    const counts = good();
    const gallery = { ...counts.gallery!, ...spoil(counts.gallery!, counts.total) };

    expect(evaluationCountsSchema.safeParse(counts).success).toBe(true);
    expect(evaluationCountsSchema.safeParse({ ...counts, gallery }).success).toBe(false);
  });

  test.each<[string, (gallery: Gallery) => Partial<Gallery>]>([
    ['rare images', ({ rare }) => ({ rare: { ...(rare ?? noneFound), total: 2 } })],
    ['images found first', () => ({ rank1: 2 })],
  ])('is refused with %s below the limit that it names', (_what, spoil) => {
    const shown = suppressSmallCells(good(), 5);

    expect(evaluationCountsSchema.safeParse(shown).success).toBe(true);
    const gallery = { ...shown.gallery!, perClass: null, ...spoil(shown.gallery!) };
    expect(evaluationCountsSchema.safeParse({ ...shown, gallery }).success).toBe(false);
  });
});

const noneFound = { rank1: null, rank5: null, rank10: null, rank30: null };

describe('the figures of several sites', () => {
  const site = (
    rank1: number,
    total: number,
    rare: EvaluationCounts['gallery'] = undefined,
  ): EvaluationCounts => ({
    ...{ smallCell: 1, classes: 2, total, correct: 0, top5: null, calibration: null, scores: null },
    perClass: [
      { total: total / 2, correct: 0, predicted: 0 },
      { total: total / 2, correct: 0, predicted: 0 },
    ],
    gallery: {
      ...{ rank1, rank5: null, rank10: null, rank30: null },
      perClass: [{ rank1: rank1 - 1, rank5: null, rank10: null, rank30: null }, null],
      rare: rare?.rare ?? null,
    },
  });

  test('are sums over images, and means over the classes that somebody tells of', () => {
    const rare = { total: 8, rank1: 2, rank5: null, rank10: null, rank30: null };
    const parts = [site(5, 10, { ...site(5, 10).gallery!, rare }), site(9, 30)];

    const { gallery } = metricsOf(mergeCounts(parts, 2));

    expect(gallery).toMatchObject({ rank1: 14 / 40, rank5: null, total: 40, classes: 1 });
    expect(gallery!.overClasses.rank1).toBeCloseTo(12 / 20, 12);
    expect(gallery!.perClass).toEqual([12 / 20, null]);
    expect(gallery!.rare).toEqual({ rank1: 0.25, rank5: null, rank10: null, rank30: null, total: 8 });
  });

  test('are those of the sites that count one: others take nothing away', () => {
    const { gallery: _gone, ...without } = site(9, 30);

    expect(metricsOf(mergeCounts([site(5, 10), without], 2)).gallery!.rank1).toBe(0.5);
    expect(metricsOf(mergeCounts([without], 2)).gallery).toBeNull();
  });

  test('stay what they are when a site counts for less', () => {
    const scaled = scaleCounts(site(5, 10), 0.3);

    expect(metricsOf(mergeCounts([scaled], 2)).gallery!.rank1).toBeCloseTo(0.5, 12);
  });
});
