/** An update that was announced in time is waited for beyond the deadline while it may still arrive, within bounds. */
import { expect, test } from 'vitest';
import type { RunState } from '../../core/coordinator/run-events.ts';
import { reduceRun } from '../../core/coordinator/run-reducer.ts';

const minuteMs = 60_000;
const startMs = Date.parse('2026-11-30T12:00:00.000Z');
const deadlineMs = 30 * minuteMs;
const rules = {
  ...{ runId: 'run', quorum: 1, participation: 1, seed: 1, rounds: 3, roundDeadlineMs: 30 * minuteMs },
  offlineGraceMs: 72_000,
};

/** One update is in; the other site stands as given. */
const openWith = (status: 'announced' | 'working'): RunState => ({
  ...{ status: 'running', round: 0, newest: 'state', pause: null },
  ...{ reported: new Set(), expected: new Set(['a', 'b']) },
  current: {
    ...{ status: 'open', closedAt: null, participants: null },
    deadlineAt: new Date(startMs + deadlineMs).toISOString(),
    sites: new Map([
      ['a', { status: 'received', updateSha256: 'x', reason: null }],
      ['b', { status, updateSha256: status === 'announced' ? 'y' : null, reason: null }],
    ]),
  },
});

const closesAt = (
  state: RunState,
  afterMs: number,
  change: { offlineMs?: number; roundDeadlineMs?: number } = {},
) => {
  const { offlineMs = 0, roundDeadlineMs = rules.roundDeadlineMs } = change;
  const { effects } = reduceRun(
    { ...rules, roundDeadlineMs },
    state,
    { type: 'looked' },
    {
      now: new Date(startMs + deadlineMs + afterMs),
      online: offlineMs === 0 ? ['a', 'b'] : ['a'],
      offlineForMs: (site) => (site === 'b' ? offlineMs : 0),
    },
  );
  return effects.some(({ type }) => type === 'freeze-round');
};

test('it holds the round up for a while, one that is not announced does not', () => {
  expect(closesAt(openWith('announced'), 1_000)).toBe(false);
  expect(closesAt(openWith('working'), 1_000)).toBe(true);
});

test('not for longer than any site takes to come back', () => {
  expect(closesAt(openWith('announced'), rules.offlineGraceMs - 1_000)).toBe(false);
  expect(closesAt(openWith('announced'), rules.offlineGraceMs + 1_000)).toBe(true);
});

test('not when its site is away for longer than that, and in a short round for less long', () => {
  expect(closesAt(openWith('announced'), 1_000, { offlineMs: 80_000 })).toBe(true);
  expect(closesAt(openWith('announced'), 6_000, { roundDeadlineMs: 10_000 })).toBe(true);
});
