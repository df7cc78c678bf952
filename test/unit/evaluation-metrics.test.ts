import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createEvaluationTally } from '../../core/engine/evaluation-tally.ts';
import { aggregateEvaluations } from '../../core/evaluation/aggregate.ts';
import { evaluationCountsSchema } from '../../core/evaluation/check-counts.ts';
import type { EvaluationCounts } from '../../core/evaluation/counts.ts';
import { mergeCounts } from '../../core/evaluation/merge-counts.ts';
import { metricsOf } from '../../core/evaluation/metrics.ts';

interface Reference {
  labels: number[];
  logits: number[][];
  accuracy: number;
  top5: number | null;
  macroF1: number;
  macroAuc: number;
  calibrationError: number;
  calibrationErrorUnrounded: number;
  perClassRecall: number[];
}
/** Values of scikit-learn; test/fixtures/evaluation/make_reference.py made them. */
const { evaluations } = JSON.parse(
  await readFile(new URL('../fixtures/evaluation/reference.json', import.meta.url), 'utf8'),
) as { evaluations: Reference[] };

function tally(labels: readonly number[], logits: readonly (readonly number[])[]): EvaluationCounts {
  const counts = createEvaluationTally(logits[0]!.length);
  for (const [index, label] of labels.entries()) counts.count(label, Float32Array.from(logits[index]!));
  return evaluationCountsSchema.parse(counts.counts());
}

/** Σ over all pairs, without bins. */
function exactMacroAuc(labels: readonly number[], logits: readonly (readonly number[])[]): number | null {
  const areas: number[] = [];
  for (const c of logits[0]!.keys()) {
    const scores = logits.map((row) => row[c]! - Math.log(row.reduce((sum, z) => sum + Math.exp(z), 0)));
    const inside = scores.filter((_, index) => labels[index] === c);
    const outside = scores.filter((_, index) => labels[index] !== c);
    if (inside.length === 0 || outside.length === 0) continue;
    const won = inside.flatMap((a) => outside.map((b): number => (a > b ? 1 : a === b ? 0.5 : 0)));
    areas.push(won.reduce((sum, w) => sum + w, 0) / won.length);
  }
  return areas.length === 0 ? null : areas.reduce((sum, area) => sum + area, 0) / areas.length;
}

/** Labels and logits of a site; `classes` of them, some may have no image. */
const images = (classes: number) =>
  fc.array(
    fc.tuple(
      fc.nat(classes - 1),
      fc.array(fc.double({ min: -9, max: 9, noNaN: true }), { minLength: classes, maxLength: classes }),
    ),
    { minLength: 1, maxLength: 40 },
  );

describe('metrics of counts', () => {
  test.each(evaluations.map((reference) => [reference.logits[0]!.length, reference] as const))(
    'are those of scikit-learn for %i classes',
    (classes, reference) => {
      const counts = tally(reference.labels, reference.logits);

      const metrics = metricsOf(mergeCounts([counts], classes));

      expect(metrics.total).toBe(reference.labels.length);
      expect(metrics.accuracy).toBeCloseTo(reference.accuracy, 12);
      if (reference.top5 === null) expect(metrics.top5).toBeNull();
      else expect(metrics.top5).toBeCloseTo(reference.top5, 12);
      expect(metrics.macroF1).toBeCloseTo(reference.macroF1, 12);
      for (const [index, recall] of reference.perClassRecall.entries())
        expect(metrics.perClassRecall[index]).toBeCloseTo(recall, 12);
      expect(Math.abs(metrics.macroAuc! - reference.macroAuc)).toBeLessThanOrEqual(metrics.macroAucWithin!);
      expect(metrics.macroAucWithin).toBeLessThan(0.06);
      expect(Math.abs(metrics.macroAuc! - reference.macroAuc)).toBeLessThan(0.01);
      expect(metrics.calibrationError).toBeCloseTo(reference.calibrationError, 10);
      expect(Math.abs(metrics.calibrationError! - reference.calibrationErrorUnrounded)).toBeLessThan(0.04);
      expect(metrics.coverage).toMatchObject({ accuracy: 1, macroF1: 1, macroAuc: 1, calibrationError: 1 });
    },
  );

  test('the AUC of all sites is as near to the one without bins as it says', () => {
    fc.assert(
      fc.property(fc.array(images(3), { minLength: 1, maxLength: 4 }), (sites) => {
        const parts = sites.map((site) =>
          tally(
            site.map(([label]) => label),
            site.map(([, row]) => row),
          ),
        );
        const all = sites.flat();

        const { macroAuc, macroAucWithin } = metricsOf(mergeCounts(parts, 3));

        const exact = exactMacroAuc(
          all.map(([label]) => label),
          all.map(([, row]) => [...Float32Array.from(row)]),
        );
        expect(macroAuc === null).toBe(exact === null);
        if (exact !== null) expect(Math.abs(macroAuc! - exact)).toBeLessThanOrEqual(macroAucWithin! + 1e-12);
      }),
      { numRuns: 200 },
    );
  });

  test('sites add up to the counts of all their images, in any order', () => {
    fc.assert(
      fc.property(fc.array(images(7), { minLength: 1, maxLength: 4 }), (sites) => {
        const parts = sites.map((site) =>
          tally(
            site.map(([label]) => label),
            site.map(([, row]) => row),
          ),
        );
        const all = sites.flat();
        const together = tally(
          all.map(([label]) => label),
          all.map(([, row]) => row),
        );

        expect(mergeCounts(parts, 7)).toEqual(mergeCounts([together], 7));
        expect(mergeCounts(parts.toReversed(), 7)).toEqual(mergeCounts(parts, 7));
      }),
      { numRuns: 100 },
    );
  });

  test('without any count everything is null and rests on nothing', () => {
    const metrics = metricsOf(mergeCounts([], 3));

    expect(metrics).toMatchObject({ total: 0, accuracy: null, macroF1: null, macroAuc: null });
    expect(metrics.perClassRecall).toEqual([null, null, null]);
    expect(Object.values(metrics.coverage)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test('a site that tells totals only counts for the accuracy and for nothing else', () => {
    const { labels, logits } = evaluations[0]!;
    const rows = [
      { siteId: 'a', correct: 3, total: 10, counts: null },
      { siteId: 'b', correct: 0, total: 0, counts: null },
      { siteId: 'c', correct: 0, total: 50, counts: tally(labels, logits) },
    ];

    const metrics = aggregateEvaluations(rows, { classes: 3, cap: null });

    const own = metricsOf(mergeCounts([tally(labels, logits)], 3));
    expect(metrics.total).toBe(60);
    expect(metrics.accuracy).toBeCloseTo((3 + 50 * evaluations[0]!.accuracy) / 60, 12);
    expect(metrics.macroF1).toBe(own.macroF1);
    expect(metrics.coverage.macroF1).toBeCloseTo(50 / 60, 12);
  });

  test('sites with other classes cannot be merged', () => {
    const { labels, logits } = evaluations[0]!;
    expect(() => mergeCounts([tally(labels, logits)], 4)).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    );
  });
});

describe('the tally', () => {
  test('counts a model that gives no numbers as one for which all classes are alike', () => {
    const counts = createEvaluationTally(4);

    counts.count(2, Float32Array.of(1, Number.NaN, 0, 0));
    counts.count(0, Float32Array.of(Number.POSITIVE_INFINITY, 0, 0, 0));

    expect(counts.counts()).toMatchObject({ total: 2, correct: 1 });
    expect(counts.counts().calibration).toEqual([{ confidence: 25, total: 2, correct: 1 }]);
    expect(counts.lossSum).toBeCloseTo(2 * Math.log(4), 12);
  });

  test('leaves scores and classes out where they would fill a message', () => {
    const many = createEvaluationTally(101);
    many.count(7, new Float32Array(101));
    const most = createEvaluationTally(1001);
    most.count(7, new Float32Array(1001));

    expect(many.counts()).toMatchObject({ scores: null, top5: 0, perClass: expect.any(Array) });
    expect(most.counts()).toMatchObject({ scores: null, perClass: null, total: 1 });
    expect(() => evaluationCountsSchema.parse(most.counts())).not.toThrow();
  });
});
