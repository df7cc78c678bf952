/** A clock that is set while a run goes on, or between two starts: the time that is left for a round stays what it was. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { dismissalOf } from '../../core/coordinator/admission.ts';
import type { RunEffect, RunEvent, RunState } from '../../core/coordinator/run-events.ts';
import { reduceRun } from '../../core/coordinator/run-reducer.ts';
import { watchWallClock } from '../../core/coordinator/wall-clock.ts';
import type { SiteRecord } from '../../core/store/records.ts';
import { type LoneRun, openLoneRun, runId } from '../fixtures/lone-run.ts';

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;
const startMs = Date.parse('2026-11-22T12:00:00.000Z');
const at = (ms: number) => new Date(startMs + ms).toISOString();

const rules = {
  ...{ runId, quorum: 1, participation: 1, seed: 1, rounds: 3, roundDeadlineMs: 30 * minuteMs },
  offlineGraceMs: minuteMs,
};
/** One of two updates is in; ten minutes are left. */
const open: RunState = {
  ...{
    status: 'running',
    round: 0,
    newest: 'state',
    reported: new Set(),
    expected: new Set(['a', 'b']),
    pause: null,
  },
  current: {
    ...{ status: 'open', deadlineAt: at(10 * minuteMs), closedAt: null, participants: null },
    sites: new Map([['a', { status: 'received', updateSha256: 'x', reason: null }]]),
  },
};
const step = (state: RunState, event: RunEvent, nowMs: number) =>
  reduceRun(rules, state, event, {
    now: new Date(startMs + nowMs),
    online: ['a', 'b'],
    offlineForMs: () => 0,
  });
const types = (effects: readonly RunEffect[]) => effects.map(({ type }) => type);

describe('a deadline', () => {
  test.each([2 * dayMs, -2 * dayMs, 60 * minuteMs])(
    'moves with the clock when it is set by %d ms',
    (byMs) => {
      const { state, effects } = step(open, { type: 'clock-set', byMs }, byMs);

      expect(types(effects)).toEqual(['move-deadline', 'publish']);
      expect(state.current).toMatchObject({ status: 'open', deadlineAt: at(10 * minuteMs + byMs) });
    },
  );

  test('that a wrong clock wrote before the last start comes nearer', () => {
    const { state } = step(open, { type: 'resumed' }, -2 * dayMs);

    expect(state.current?.deadlineAt).toBe(at(-2 * dayMs + rules.roundDeadlineMs));
  });

  test('is as far away as before, after a pause in which the clock was set forward', () => {
    const pause = { kind: 'asked', failure: null, since: at(0), retryAt: null } as const;
    const paused = step({ ...open, pause }, { type: 'clock-set', byMs: 2 * dayMs }, 2 * dayMs);
    expect(types(paused.effects)).toEqual(['move-deadline', 'move-pause', 'publish']);
    const { state } = step(paused.state, { type: 'continued' }, 2 * dayMs);

    expect(state.current?.deadlineAt).toBe(at(2 * dayMs + 10 * minuteMs));
  });

  test('of the last evaluation counts alone when the clock was set back', () => {
    const current = { ...open.current!, status: 'closed' as const, closedAt: at(0) };
    const last: RunState = { ...open, status: 'evaluating', round: 2, current };
    const { state: moved } = step(last, { type: 'clock-set', byMs: -2 * dayMs }, -2 * dayMs);
    expect(moved.status).toBe('evaluating');

    expect(step(moved, { type: 'looked' }, -2 * dayMs + 11 * minuteMs).state.status).toBe('finished');
  });
});

test('a try that a wrong clock put off by days is made at once', () => {
  const pause = { kind: 'retry', failure: null, since: at(0), retryAt: at(4_000) } as const;

  expect(step({ ...open, pause }, { type: 'looked' }, 0).state.pause).not.toBeNull();
  expect(step({ ...open, pause }, { type: 'looked' }, -2 * dayMs).state.pause).toBeNull();
});

test('a site that was kept out while a clock was ahead is heard again when it is right', () => {
  const site = { dismissedUntil: at(15 * minuteMs), dismissalReason: 'a flood' } as SiteRecord;

  expect(dismissalOf(site, at(0))).toMatchObject({ reason: 'a flood' });
  expect(dismissalOf(site, at(-2 * dayMs))).toBeNull();
});

test('a clock that goes as it should was never set; a jump is told once', () => {
  let [wall, steady] = [0, 0];
  const watch = watchWallClock({ wallMs: () => wall, steadyMs: () => steady });
  const after = (wallMs: number, steadyMs: number) => {
    wall += wallMs;
    steady += steadyMs;
    return watch.setByMs();
  };

  expect([after(1_000, 1_000), after(1_500, 1_000), after(dayMs, 1_000), after(1_000, 1_000)]).toEqual([
    0,
    0,
    dayMs - 1_000,
    0,
  ]);
  expect(after(-dayMs, 1_000)).toBe(-dayMs - 1_000);
});

describe('a coordinator whose clock is set forward by two days', () => {
  let run: LoneRun;
  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: startMs });
    run = await openLoneRun(['a', 'b'], { rounds: 2, quorum: 1 });
  });
  afterEach(async () => {
    vi.useRealTimers();
    await run[Symbol.asyncDispose]();
  });

  test('waits for the update that is on its way, and counts it', async () => {
    const [first, second] = [await run.update(1), await run.update(2)];
    await run.deliver('a', first);
    vi.setSystemTime(startMs + 2 * dayMs);
    run.engine.sitesChanged();

    await run.deliver('b', second);

    await vi.waitFor(() => expect(run.store.runs.get(runId)!.round).toBe(1), { timeout: 10_000 });
    expect(run.store.roundSites.listOfRun(runId).map(({ status }) => status)).toEqual([
      'received',
      'received',
    ]);
  });
});
