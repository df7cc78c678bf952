/** Counts of a site that is to count for less: every cell by the same factor, so that all its figures stay what they are. */
import type { ClassCounts, EvaluationCounts } from './counts.ts';
import { type GalleryCounts, mapRanks, type RankCounts } from './gallery-counts.ts';

/** @returns cells that need not be whole numbers any more */
export function scaleCounts(counts: EvaluationCounts, factor: number): EvaluationCounts {
  const cell = (value: number) => value * factor;
  const orNull = (value: number | null) => (value === null ? null : cell(value));
  const ofClass = ({ total, correct, predicted }: ClassCounts) => ({
    total: orNull(total),
    correct: orNull(correct),
    predicted: orNull(predicted),
  });
  return {
    ...counts,
    total: cell(counts.total),
    correct: cell(counts.correct),
    top5: orNull(counts.top5),
    perClass: counts.perClass?.map(ofClass) ?? null,
    calibration:
      counts.calibration?.map((block) => ({
        ...block,
        total: cell(block.total),
        correct: cell(block.correct),
      })) ?? null,
    scores:
      counts.scores?.map(
        (blocks) =>
          blocks?.map(([from, to, positives, negatives]): [number, number, number, number] => [
            from,
            to,
            cell(positives),
            cell(negatives),
          ]) ?? null,
      ) ?? null,
    ...(counts.gallery && { gallery: scaleGallery(counts.gallery, orNull) }),
  };
}

function scaleGallery(
  { perClass, rare, ...whole }: GalleryCounts,
  cell: (value: number | null) => number | null,
): GalleryCounts {
  const ranks = (counts: RankCounts) => mapRanks((key) => cell(counts[key]));
  return {
    ...ranks(whole),
    perClass: perClass?.map((row) => row && ranks(row)) ?? null,
    rare: rare && { total: cell(rare.total)!, ...ranks(rare) },
  };
}
