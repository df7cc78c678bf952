/** A short fixed set in CI: two seeds, each a federation of processes with faults for about half a minute. */
import { expect, test } from 'vitest';
import { readOptions } from './options.ts';
import { linesOfReport } from './report.ts';
import { runChaos } from './run-chaos.ts';

test.each([1, 2])('seed %i: nothing is lost, and nothing is counted twice', async (seed) => {
  const lines: string[] = [];
  // One episode after the undisturbed run. However slow the machine is, what hangs hangs for ever.
  const one = ['--episode', '0', '--episode-seconds', '25', '--settle-seconds', '400'];
  const options = readOptions(['--seed', String(seed), ...one]);

  const report = await runChaos(options, {
    say: (line) => void lines.push(line),
    signal: AbortSignal.timeout(900_000),
  });

  const words = [...lines, ...linesOfReport(report)].join('\n');
  expect(report.violations, words).toBe(0);
  expect(report.runs, words).toBeGreaterThanOrEqual(2);
  expect(report.compared.updates, words).toBeGreaterThan(0);
  expect(
    Object.values(report.faults).reduce((sum, count) => sum + count, 0),
    words,
  ).toBeGreaterThan(3);
});
