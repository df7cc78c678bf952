import { describe, expect, test } from 'vitest';
import { describeMetrics } from '../../core/cli/metrics-table.ts';
import { createEvaluationTally } from '../../core/engine/evaluation-tally.ts';
import { suppressSmallCells } from '../../core/evaluation/suppress-small-cells.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { maxEnvelopeBytes } from '../../core/transport/envelope.ts';
import { evaluationSchema } from '../../core/transport/messages.ts';
import { addRun, openTestStore } from '../fixtures/store.ts';

/** Every second class is taken for its neighbour once in three images. */
function tallied(classes: number, perClass: number) {
  const tally = createEvaluationTally(classes);
  for (let label = 0; label < classes; label++) {
    for (let i = 0; i < perClass; i++) {
      const taken = label % 2 === 0 && i % 3 === 0 ? (label + 1) % classes : label;
      tally.count(
        label,
        Float32Array.from({ length: classes }, (_, c) => (c === taken ? 3 : 0) + ((c * 7 + i * 5) % 11) / 5),
      );
    }
  }
  return tally.counts();
}

const key = { runId: 'r1', stateSha256: sha256('g') };

describe('the message of an evaluation', () => {
  test('takes counts that agree with its totals and refuses others', () => {
    const counts = suppressSmallCells(tallied(4, 30), 5);
    const body = { ...key, correct: counts.correct, total: counts.total, counts };

    expect(evaluationSchema.parse(body)).toEqual(body);
    expect(evaluationSchema.safeParse({ ...key, correct: 0, total: 0 }).success).toBe(true);
    expect(evaluationSchema.safeParse({ ...key, correct: 3, total: 10 }).success).toBe(false);
    expect(evaluationSchema.safeParse({ ...body, correct: counts.correct - 5 }).success).toBe(false);
    expect(evaluationSchema.safeParse({ ...body, total: counts.total + 5 }).success).toBe(false);
    expect(evaluationSchema.safeParse({ ...body, counts: { ...counts, total: 5 } }).success).toBe(false);
  });

  test.each([
    [100, 1],
    [1000, 1],
    [100, 5],
  ])('of %i classes with a limit of %i fits an envelope', (classes, smallCell) => {
    const counts = suppressSmallCells(tallied(classes, 40), smallCell);
    const body = { ...key, correct: counts.correct, total: counts.total, counts };

    expect(JSON.stringify(evaluationSchema.parse(body)).length).toBeLessThan(0.9 * maxEnvelopeBytes);
  });
});

test('counts are kept with an evaluation and replaced with it', () => {
  using opened = openTestStore();
  const { evaluations } = opened.store;
  addRun(opened.store, 'r1');
  const counts = tallied(3, 12);

  evaluations.upsert({ ...key, siteId: 's1', correct: 3, total: 10 });
  const before = evaluations.ofState('r1', key.stateSha256);
  evaluations.upsert({ ...key, siteId: 's1', correct: counts.correct, total: counts.total, counts });
  const after = evaluations.ofState('r1', key.stateSha256);

  expect(before).toMatchObject([{ correct: 3, counts: null }]);
  expect(after).toMatchObject([{ correct: counts.correct, counts }]);
});

test('the terminal shows what may be told of the newest evaluated state, and nothing else', () => {
  const metrics = {
    total: 120,
    accuracy: 0.9,
    top5: null,
    macroF1: 0.85,
    macroAuc: 0.97,
    macroAucWithin: 0.012,
    calibrationError: null,
    perClassRecall: [0.8, null],
    coverage: { accuracy: 1, top5: 0, perClassRecall: 0.5, macroF1: 0.5, macroAuc: 1, calibrationError: 0 },
  };
  const rounds = [
    { round: 0, metrics },
    { round: 1, metrics: null },
  ];
  const run = { config: { classes: ['Noonan', 'Williams'] }, done: rounds, untrained: null };

  const text = describeMetrics(run as unknown as Parameters<typeof describeMetrics>[0])!;

  expect(text).toMatch(/After round 1, on 120 held-out images/);
  expect(text).toMatch(/macro AUC.*97\.0 % ± 1\.2 %.*100\.0 %/);
  expect(text).toMatch(/macro-F1.*85\.0 %.*50\.0 %/);
  expect(text).toMatch(/recall of Noonan.*80\.0 %/);
  expect(text).not.toMatch(/Williams|calibration|among five/);
});
