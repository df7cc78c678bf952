import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createTimeLeft, formatDuration } from '../../core/cli/simulate/progress.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { type FailedRun, readRunLines } from '../../core/simulation/record.ts';
import { openResults } from '../../core/simulation/results.ts';
import { selectRuns } from '../../core/simulation/run-selection.ts';
import type { SimulatedRun } from '../../core/simulation/simulate-run.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const config = defaultRunConfig({
  baseId: 'face-resnet-128',
  baseSha256: sha256('base'),
  classes: ['a', 'b'],
});

function failedLine(id: string, message: string): FailedRun {
  return {
    formatVersion: 1,
    id: sha256(id),
    experiment: 'e',
    label: 'sa-fedlora',
    seed: 1,
    sites: 1,
    partition: { kind: 'iid' },
    evaluateOn: 'test',
    config,
    dataSha256: sha256('data'),
    siteData: [],
    versions: { anneal: '0', node: '24', onnxruntime: '1', commit: null },
    machine: {
      platform: 'p',
      processor: 'p',
      cores: 1,
      memoryBytes: 1,
      workers: 1,
      threadsPerWorker: 1,
    },
    startedAt: '2026-11-22T12:00:00.000Z',
    status: 'failed',
    error: { code: 'TRAINING_FAILED', message, action: 'Look.' },
    rounds: [],
  };
}

describe('results', () => {
  test('a line that was cut off is removed, and the next one stands on a line of its own', async () => {
    using folder = temporaryFolder();
    const results = await openResults(folder.dir);
    await results.append(failedLine('one', 'first'));
    appendFileSync(join(folder.dir, 'runs.jsonl'), '{"formatVersion":1,"id":"cut');

    const again = await openResults(folder.dir);
    await again.append(failedLine('two', 'second'));

    const lines = readFileSync(join(folder.dir, 'runs.jsonl'), 'utf8').split('\n');
    expect(lines).toHaveLength(3);
    expect((await readRunLines(join(folder.dir, 'runs.jsonl'))).map(({ id }) => id)).toEqual([
      sha256('one'),
      sha256('two'),
    ]);
    // A failed run is not finished: it is run again.
    expect(again.finished.size).toBe(0);
  });

  test('of several lines of one run the last counts', async () => {
    using folder = temporaryFolder();
    const results = await openResults(folder.dir);
    await results.append(failedLine('one', 'first'));
    await results.append(failedLine('one', 'again'));

    const [line, ...others] = await readRunLines(join(folder.dir, 'runs.jsonl'));

    expect(line).toMatchObject({ error: { message: 'again' } });
    expect(others).toEqual([]);
  });

  test('a line that is none is named', async () => {
    using folder = temporaryFolder();
    appendFileSync(join(folder.dir, 'runs.jsonl'), '{"formatVersion":2}\n');

    await expect(openResults(folder.dir)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('runs.jsonl, line 1'),
    });
    await expect(readRunLines(join(folder.dir, 'none.jsonl'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

test('selectRuns knows ids and words, and names a word that means nothing', () => {
  const run = (label: string, seed: number) =>
    ({
      id: sha256(`${label} ${seed}`),
      label,
      seed,
      partition: { kind: 'iid' },
      sites: [{}, {}],
    }) as unknown as SimulatedRun;
  const runs = [run('x', 1), run('x', 11), run('y', 1)];

  expect(selectRuns(runs, ['x'])).toEqual([runs[0], runs[1]]);
  expect(selectRuns(runs, ['seed 1'])).toEqual([runs[0], runs[2]]);
  expect(selectRuns(runs, ['y, seed 1', runs[1]!.id.slice(0, 8)])).toEqual([runs[1], runs[2]]);
  expect(() => selectRuns(runs, ['z'])).toThrow(/No run of this experiment matches "z"/);
});

test('the time left follows the rounds that were done', () => {
  let now = 0;
  const left = createTimeLeft(() => now);
  left.begin(10);
  expect(left.text()).toContain('not known');
  now = 60_000;
  left.round();
  left.round();
  expect(left.text()).toBe('about 4 min left');
  left.skip(4);
  expect(left.text()).toBe('about 2 min left');
  expect([formatDuration(40_000), formatDuration(7_500_000)]).toEqual(['40 s', '2 h 05 min']);
});
