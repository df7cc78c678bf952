import { describe, expect, test } from 'vitest';
import { fitRounds, initialSettings } from '../../renderer/api/run-settings.ts';
import { actionWords, detailWords } from '../../renderer/format/audit-words.ts';
import { resultRows, scheduleRows, stageSpans } from '../../renderer/format/schedule-rows.ts';
import { createRun } from '../fixtures/screens-stand-in/runs.ts';

describe('the audit trail in words', () => {
  test('actions read as sentences begin', () => {
    expect(actionWords('consent.granted')).toBe('Consent granted');
    expect(actionWords('update_set-aside')).toBe('Update set aside');
  });

  test('details lose their camels, long hashes are cut, rounds count from 1, bytes have units', () => {
    const details = {
      documentVersion: 'v2',
      round: 0,
      sizeBytes: 1_412_000,
      sha256: 'ab'.repeat(32),
      note: null,
    };
    expect(detailWords(details)).toBe('document version v2 · round 1 · size 1.41 MB · sha256 ababababab');
  });

  test('what is not flat is shown as JSON, nothing is dropped', () => {
    expect(detailWords({ labels: ['a', 'b'], active: false })).toBe('labels ["a","b"] · active false');
  });
});

describe('what the charts draw', () => {
  const siteNames = ['North', 'South'];
  const run = createRun({ id: 'r', closedRounds: 3, siteNames });

  test('a round is either planned or done, never both; the open one is still planned', () => {
    const rows = scheduleRows(run.plan, run.done);
    expect(rows).toHaveLength(10);
    expect(rows.map((row) => row['rankDone'] === null)).toEqual([
      ...Array(3).fill(false),
      ...Array(7).fill(true),
    ]);
    expect(rows.every((row) => (row['rankDone'] === null) !== (row['rankPlanned'] === null))).toBe(true);
    expect(rows.every((row) => (row['bytesDone'] === null) !== (row['bytesPlanned'] === null))).toBe(true);
  });

  test('done bytes are per site that sent, so that they compare with the plan', () => {
    const [first] = run.done;
    const oneAbsent = {
      ...first!,
      bytesUp: 1000,
      sites: [first!.sites[0]!, { ...first!.sites[1]!, status: 'absent' as const }],
    };
    expect(scheduleRows(run.plan, [oneAbsent])[0]!['bytesDone']).toBe(1000);
    expect(scheduleRows(run.plan, [{ ...oneAbsent, sites: first!.sites }])[0]!['bytesDone']).toBe(500);
  });

  test('neighbouring rounds of a stage are one span, and the spans cover the run', () => {
    const spans = stageSpans(run.plan);
    expect(spans.map(({ stage, from, rounds }) => [stage, from, rounds])).toEqual([
      ['initiating', 0, 2],
      ['heating', 2, 1],
      ['annealing', 3, 6],
      ['cooling', 9, 1],
    ]);
  });

  test('the axis of results has every round of the run; those to come have no values', () => {
    const rows = resultRows(run.done.slice(0, 2), 5);
    expect(rows.map((row) => row['round'])).toEqual(['1', '2', '3', '4', '5']);
    expect(rows[1]!['accuracy']).toBe(run.done[1]!.accuracy);
    expect(rows[2]).toEqual({ round: '3', loss: null, accuracy: null, bytesUp: null, bytesDown: null });
  });
});

describe('fewer rounds', () => {
  test.each([
    [10, [2, 1, 1]],
    [4, [2, 1, 1]],
    [3, [2, 1, 0]],
    [2, [2, 0, 0]],
    [1, [1, 0, 0]],
  ])('%d rounds keep stages %j, which always fit', (rounds, stages) => {
    const fitted = fitRounds({ ...initialSettings(), heatingRounds: 1 }, rounds);
    expect([fitted.initiatingRounds, fitted.heatingRounds, fitted.coolingRounds]).toEqual(stages);
    expect(stages.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(rounds);
  });
});
