/**
 * A short fixed set in CI: federations of processes with faults for about half a minute each, one after the other, as
 * `npm run chaos` starts them.
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

const program = fileURLToPath(new URL('./main.ts', import.meta.url));
/** One short episode after the undisturbed run. However slow the machine is, what hangs hangs for ever. */
const one = ['--episode', '0', '--settle-seconds', '400', '--rounds', '4', '--epochs', '2'];

async function play(given: readonly string[]): Promise<{ report: ChaosReport; words: string }> {
  using folder = temporaryFolder();
  const json = path.join(folder.dir, 'report.json');
  const options = { timeout: 900_000, maxBuffer: 2 ** 26 };
  // Code 1: a promise was broken, and the report says which.
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [program, ...one, ...given, '--json', json],
    options,
  ).catch((failed: { stdout: string; stderr: string }) => failed);
  const words = `${stdout}\n${stderr}`;
  try {
    return { report: JSON.parse(readFileSync(json, 'utf8')) as ChaosReport, words };
  } catch {
    throw new Error(`no report:\n${words}`);
  }
}

const processes = 'kill,freeze,restart,kill-trainer,slow-link,reset-link,black-hole,withdraw,consent-again';

test.each([1, 2])(
  'seed %i: processes, links and decisions: nothing is lost, and nothing is counted twice',
  async (seed) => {
    const { report, words } = await play([
      ...['--seed', String(seed), '--faults', processes],
      ...['--episode-seconds', '15', '--every-ms', '2000'],
    ]);

    expect(report.violations, words).toBe(0);
    expect(report.runs, words).toBeGreaterThanOrEqual(2);
    expect(report.compared.updates, words).toBeGreaterThan(0);
    expect(
      Object.values(report.faults).reduce((sum, count) => sum + count, 0),
      words,
    ).toBeGreaterThan(3);
  },
);

const machines = ['full-disk', 'clock-jump', 'bit-flip', 'restore'] as const;

/** Its first episode has one of each, at least. */
test('seed 381: full disks, wrong clocks, damaged files and restored folders', async () => {
  const { report, words } = await play(['--seed', '381', '--episode-seconds', '25', '--every-ms', '2500']);

  expect(report.violations, words).toBe(0);
  expect(report.runs, words).toBeGreaterThanOrEqual(2);
  // Where no disk can be mounted without more rights, none is filled.
  const wanted = machines.filter((kind) => kind !== 'full-disk' || namespaceCommand() !== null);
  for (const kind of wanted) expect(report.faults[kind], `${kind}: ${words}`).toBeGreaterThan(0);
});
