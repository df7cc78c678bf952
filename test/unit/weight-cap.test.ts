/** How many images a site has is its own claim: what a false one gains, measured over every strategy and in evaluations. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { strategyNameSchema } from '../../core/config/setting.ts';
import { createEvaluationTally } from '../../core/engine/evaluation-tally.ts';
import { aggregateEvaluations } from '../../core/evaluation/aggregate.ts';
import { maxImages } from '../../core/evaluation/counts.ts';
import { evaluationMetricsSchema } from '../../core/evaluation/metrics.ts';
import { suppressSmallCells } from '../../core/evaluation/suppress-small-cells.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { cappedByMedian } from '../../core/shared/median-cap.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { aggregateOnce, runSettings, trainAs } from '../fixtures/strategy-rounds.ts';

const base = shapeOnlyBase();
const honestSites = 9;

describe('the cap', () => {
  it('is set by an honest claim while fewer than half are hostile, and leaves honest ones alone', () => {
    const images = fc.integer({ min: 1, max: 10_000 });
    const claims = fc.record({
      honest: fc.array(images, { minLength: 2, maxLength: 9 }),
      hostile: fc.array(fc.double({ min: 0, max: 1e18, noNaN: true }), { maxLength: 8 }),
      cap: fc.double({ min: 1, max: 10, noNaN: true }),
    });
    fc.assert(
      fc.property(claims, ({ honest, hostile, cap }) => {
        fc.pre(hostile.length < honest.length);

        const capped = cappedByMedian([...honest, ...hostile], cap);

        expect(Math.max(...capped)).toBeLessThanOrEqual(cap * Math.max(...honest));
        expect(
          cappedByMedian(
            honest.map(() => 7),
            cap,
          ),
        ).toEqual(honest.map(() => 7));
        expect(cappedByMedian([...honest, ...hostile], null)).toEqual([...honest, ...hostile]);
      }),
    );
  });

  it('takes the lower of two middle values, and sites without images say nothing', () => {
    expect(cappedByMedian([10, 1000], 3)).toEqual([10, 30]);
    expect(cappedByMedian([0, 0, 0, 10, 1000], 3)).toEqual([0, 0, 0, 10, 30]);
    expect(cappedByMedian([0, 0], 3)).toEqual([0, 0]);
  });
});

/** The share of the hostile update in the merged head, where all honest sites sent the same one. */
async function measuredShare(
  change: Partial<RunConfig>,
  claim: number,
  sites = honestSites,
): Promise<number> {
  const config = runSettings(base, { initiatingRounds: 0, ...change });
  const global = createRunState(config, base);
  const honest = trainAs(config, base, global, 0, 1);
  const hostile = trainAs(config, base, global, 0, 2);
  const honestUpdates = Array.from({ length: sites }, (_, index) => ({
    ...{ siteId: `site-${index}`, examples: 80, state: honest },
  }));
  const updates = [...honestUpdates, { siteId: 'hostile', examples: claim, state: hostile }];

  const { state } = await aggregateOnce(config, base, 0, global, updates);

  const [merged, own, other] = [state, hostile, honest].map((one: ModelState) => [
    ...one.head.get('weight')!.data,
  ]);
  const direction = own!.map((value, i) => value - other![i]!);
  const along = (values: readonly number[]) =>
    values.reduce((sum, value, i) => sum + value * direction[i]!, 0);
  return along(merged!.map((value, i) => value - other![i]!)) / along(direction);
}

it('leaves a hostile site among three no more than three fifths, and no more than half where the cap is two', async () => {
  expect(await measuredShare({ weightCap: 3 }, maxImages, 2)).toBeCloseTo(3 / 5, 4);
  expect(await measuredShare({ weightCap: 2 }, maxImages, 2)).toBeCloseTo(1 / 2, 4);
});

const privacy = { at: 'site', clipNorm: 1e6, noiseMultiplier: 0, delta: 1e-5 } as const;

describe.each(strategyNameSchema.options.map((strategy) => [strategy] as const))('%s', (strategy) => {
  it.each([maxImages, 9e15])('a claim of %d images gives no more than the cap', async (claim) => {
    const capped = await measuredShare({ strategy, weightCap: 3 }, claim);

    expect(capped).toBeCloseTo(3 / (honestSites + 3), 4);
    expect(await measuredShare({ strategy, weightCap: null }, claim)).toBeGreaterThan(0.99);
    expect(await measuredShare({ strategy, weightCap: 3 }, 80)).toBeCloseTo(1 / (honestSites + 1), 4);
  });

  it('also with noise at the sites', async () => {
    expect(await measuredShare({ strategy, weightCap: 3, privacy }, maxImages)).toBeCloseTo(
      3 / (honestSites + 3),
      4,
    );
  });
});

describe('an evaluation', () => {
  function counted(images: number, right: number) {
    const tally = createEvaluationTally(3);
    for (let i = 0; i < images; i++) {
      const label = i % 3;
      const logits = new Float32Array(3);
      logits[i < right ? label : (label + 1) % 3] = 4;
      tally.count(label, logits);
    }
    const counts = suppressSmallCells(tally.counts(), 5);
    return { correct: counts.correct, total: counts.total, counts };
  }
  const honest = ['a', 'b', 'c', 'd'].map((siteId) => ({ siteId, ...counted(60, 45) }));
  const giant = { smallCell: 5, classes: 3, total: maxImages, correct: 0, top5: null };
  const hostile = {
    ...{ siteId: 'x', correct: 0, total: maxImages },
    counts: { ...giant, perClass: null, calibration: null, scores: null },
  };

  it("of a giant claim does not decide the others' accuracy", () => {
    const { accuracy } = aggregateEvaluations([...honest, hostile], { classes: 3, cap: 3 });

    expect(aggregateEvaluations([...honest, hostile], { classes: 3, cap: null }).accuracy).toBeLessThan(1e-4);
    expect(accuracy).toBeCloseTo((4 * 45) / (4 * 60 + 3 * 60), 12);
  });

  it('that is scaled keeps its own figures, and its images are told as they are', () => {
    const large = { siteId: 'large', ...counted(2000, 1400) };
    const small = ['s', 't'].map((siteId) => ({ siteId, ...counted(30, 21) }));

    const metrics = aggregateEvaluations([large, ...small], { classes: 3, cap: 2 });
    const alone = aggregateEvaluations([large], { classes: 3, cap: null });

    expect(evaluationMetricsSchema.parse(metrics)).toEqual(metrics);
    expect(metrics.total).toBe(2060);
    expect(metrics.accuracy).toBeCloseTo(0.7, 12);
    expect(metrics.perClassRecall[0]).toBeCloseTo(alone.perClassRecall[0]!, 1);
  });

  it('of all images right stays at one whatever it is scaled by', () => {
    const rows = [7, 11, 13, 1999].map((images, i) => ({
      siteId: `${i}`,
      ...counted(images * 3, images * 3),
    }));
    for (const cap of [1, 1.1, 1.37, 2.9]) {
      const metrics = aggregateEvaluations(rows, { classes: 3, cap });
      expect(evaluationMetricsSchema.parse(metrics)).toMatchObject({ accuracy: 1 });
    }
  });
});
