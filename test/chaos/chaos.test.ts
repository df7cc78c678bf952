/**
 * A short fixed piece of what `npm run chaos` does, for CI: one federation of processes, and two episodes of a quarter of a
 * minute whose schedules have every family of faults. Starting a federation is what costs most, so there is one.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../fixtures/store.ts';
import { namespaceCommand } from './disk.ts';
import type { ChaosReport } from './report.ts';
import type { FaultKind } from './schedule.ts';

const program = fileURLToPath(new URL('./main.ts', import.meta.url));
const given = [
  ...['--seed', '1836', '--episodes', '2', '--episode-seconds', '15', '--every-ms', '1800'],
  // However slow the machine is, what hangs hangs for ever.
  ...['--settle-seconds', '400', '--rounds', '4', '--epochs', '2'],
];
const struck: FaultKind[] = [
  ...(['kill', 'kill-trainer', 'restart', 'freeze', 'black-hole', 'reset-link'] as const),
  ...(['full-disk', 'clock-jump', 'bit-flip', 'restore', 'withdraw'] as const),
];

async function play(): Promise<{ report: ChaosReport; words: string }> {
  using folder = temporaryFolder();
  const json = path.join(folder.dir, 'report.json');
  const options = { timeout: 900_000, maxBuffer: 2 ** 26 };
  // Code 1: a promise was broken, and the report says which.
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [program, ...given, '--json', json],
    options,
  ).catch((failed: { stdout: string; stderr: string }) => failed);
  const words = `${stdout}\n${stderr}`;
  try {
    return { report: JSON.parse(readFileSync(json, 'utf8')) as ChaosReport, words };
  } catch {
    throw new Error(`no report:\n${words}`);
  }
}

test('whatever fails, nothing is lost, nothing is counted twice, and everybody comes back', async () => {
  const { report, words } = await play();

  expect(report.violations, words).toBe(0);
  expect(report.runs, words).toBeGreaterThanOrEqual(3);
  expect(report.compared.updates, words).toBeGreaterThan(0);
  // Where no disk can be mounted without more rights, none is filled.
  const wanted = struck.filter((kind) => kind !== 'full-disk' || namespaceCommand() !== null);
  for (const kind of wanted) expect(report.faults[kind], `${kind}: ${words}`).toBeGreaterThan(0);
});
