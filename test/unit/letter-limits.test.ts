/** The form of "approve within limits", without a browser. */
import { expect, test } from 'vitest';
import { limitsSchema } from '../../core/policy/standing-approval.ts';
import { faultsOf, initialLimits, limitFields, writtenLimits } from '../../renderer/letter/limits.ts';

const run = {
  ...{ rounds: 10, rMax: 16, quorum: 3, smallCell: 5, batchSize: 16, clipNorm: 1 },
  classes: ['a', 'b'],
};
const now = new Date(2026, 10, 22, 12);

test('every limit that can be edited has a field', () => {
  const offered = [...limitFields.map(({ key }) => key), 'classes'].sort();
  const { runs: _runs, until: _until, ...fields } = limitsSchema.shape;
  expect(offered).toEqual(Object.keys(fields).sort());
});

test('it begins with the run itself, which it covers, and with an end', () => {
  const start = initialLimits(run, now);

  expect(start).toEqual({ ...run, runs: 2, lastDay: '2027-11-22' });
  expect(faultsOf(start, run, now)).toEqual({});
});

test.each([
  ['rounds', 9],
  ['rMax', 15],
  ['quorum', 4],
  ['smallCell', 6],
  ['batchSize', 17],
  ['clipNorm', 0.5],
] as const)('%s of %d would not cover the run of the letter', (key, value) => {
  const faults = faultsOf({ ...initialLimits(run, now), [key]: value }, run, now);

  expect(Object.keys(faults)).toEqual([key]);
});

test('a class of the run may not be left out, another may be added', () => {
  const form = initialLimits(run, now);

  expect(faultsOf({ ...form, classes: ['a', 'c'] }, run, now).classes).toContain('"b"');
  expect(faultsOf({ ...form, classes: ['a', 'b', 'c'] }, run, now)).toEqual({});
});

test('the last day is covered whole, by the clock of who set it', () => {
  const form = initialLimits(run, now);
  const { until } = writtenLimits({ ...form, lastDay: '2027-06-30' });

  expect(until).toBe(new Date(2027, 6, 1).toISOString());
  expect(limitsSchema.safeParse(writtenLimits(form)).success).toBe(true);
  expect(writtenLimits({ ...form, lastDay: '' }).until).toBeNull();
  expect(faultsOf({ ...form, lastDay: '2026-11-21' }, run, now).lastDay).toBeDefined();
});
