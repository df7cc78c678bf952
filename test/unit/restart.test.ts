import { describe, expect, test } from 'vitest';
import {
  countOomKills,
  type GivenTrainJob,
  type ProcessEnd,
  restartAfter,
} from '../../core/engine/restart.ts';
import { shapeJob } from '../fixtures/shape-crops.ts';

const job = (device: GivenTrainJob['device']): GivenTrainJob =>
  shapeJob({ stateFile: 'state', outFile: 'out' }, [], { device });
const end = (changes: Partial<ProcessEnd>): ProcessEnd => ({
  code: null,
  signal: null,
  oomKilled: undefined,
  ...changes,
});

describe('restartAfter', () => {
  test('a killed process gets the very same job', () => {
    const restart = restartAfter(end({ signal: 'SIGKILL', oomKilled: false }), job('cpu'), 8);
    expect(restart?.job).toEqual(job('cpu'));
    expect(restart?.event.kind).toBe('restarted');
  });

  test.each([
    ['the memory guard', end({ signal: 'SIGKILL', oomKilled: true })],
    ['a kill on a system that does not tell why', end({ signal: 'SIGKILL' })],
    ['an abort', end({ signal: 'SIGABRT' })],
    ['the exit code of an abort', end({ code: 134 })],
  ])('%s halves what is computed at once', (_, how) => {
    expect(restartAfter(how, job('cpu'), 9)?.job).toMatchObject({ device: 'cpu', microBatch: 4 });
  });

  test('with one image at once only another device can help', () => {
    const how = end({ signal: 'SIGKILL', oomKilled: true });
    expect(restartAfter(how, job('cuda'), 1)?.job).toMatchObject({ device: 'cpu' });
    expect(restartAfter(how, job('cpu'), 1)).toBeUndefined();
  });

  test.each([
    ['SIGSEGV', end({ signal: 'SIGSEGV' })],
    ['an abort', end({ signal: 'SIGABRT' })],
    ['an access violation on Windows', end({ code: 3_221_225_477 })],
  ])('%s on an accelerator goes on on the processor', (_, how) => {
    const restart = restartAfter(how, job('webgpu'), 8);
    expect(restart?.job.device).toBe('cpu');
    expect(restart?.event).toMatchObject({ from: 'webgpu', to: 'cpu' });
  });

  test.each([
    ['a crash on the processor', end({ signal: 'SIGSEGV' })],
    ['an exit with an error', end({ code: 1 })],
    ['a polite end', end({ signal: 'SIGTERM' })],
    ['an exit without an error', end({ code: 0 })],
  ])('%s is a failure', (_, how) => {
    expect(restartAfter(how, job('cpu'), 8)).toBeUndefined();
  });
});

test.runIf(process.platform === 'linux')('Linux tells how many processes it has ended for memory', () => {
  expect(countOomKills()).toBeGreaterThanOrEqual(0);
});
