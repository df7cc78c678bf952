/** A clock that somebody sets while a coordinator runs, or while it is down, moves nothing in a run. */
import { afterEach, expect, test, vi } from 'vitest';
import { type LoneRun, openLoneRun, runId } from '../fixtures/lone-run.ts';

const [dayMs, deadlineMs] = [86_400_000, 90_000];
const startMs = Date.parse('2026-11-30T12:00:00Z');
let run: LoneRun | null = null;
afterEach(() => run?.[Symbol.asyncDispose]());

class TestClock {
  steady = 1_000;
  wrongBy = 0;
  wallMs = () => startMs + this.steady + this.wrongBy;
  steadyMs = () => this.steady;
}

const until = (probe: () => void) => vi.waitFor(probe, { timeout: 20_000, interval: 50 });
const round = () => run!.store.runs.get(runId)!.round;
const receivedIn = (of: number) =>
  run!.store.roundSites
    .list(runId, of)
    .filter(({ status }) => status === 'received')
    .map(({ siteId }) => siteId);
const open = (clock: TestClock) =>
  openLoneRun(['a', 'b'], { rounds: 3, quorum: 1, roundDeadlineMs: deadlineMs }, { clock });

test.each([
  ['two days ahead', 2 * dayMs],
  ['an hour back', -dayMs / 24],
  ['two days back', -2 * dayMs],
])('%s, no round ends early: the update of the other site counts', async (_what, byMs) => {
  const clock = new TestClock();
  run = await open(clock);
  await run.deliver('a', await run.update(1));

  clock.wrongBy = byMs;
  clock.steady += deadlineMs / 2;
  await run.deliver('b', await run.update(2));

  await until(() => expect(round()).toBe(1));
  expect(receivedIn(0)).toEqual(['a', 'b']);
  const { deadlineAt } = run.store.rounds.get(runId, 1)!;
  expect(Date.parse(deadlineAt!) - clock.wallMs()).toBeLessThanOrEqual(deadlineMs);
});

test.each([
  ['ahead', 2 * dayMs],
  ['back', -2 * dayMs],
])('a round whose deadline passes closes, although the clock was set %s meanwhile', async (_what, byMs) => {
  const clock = new TestClock();
  run = await open(clock);
  await run.deliver('a', await run.update(1));

  clock.wrongBy = byMs;
  clock.steady += deadlineMs / 2;
  run.engine.sitesChanged();
  await run.engine.received('nobody', { type: 'declined', body: { runId, round: -1, reason: '' } });
  expect(round()).toBe(0);
  clock.steady += deadlineMs;

  await until(() => expect(round()).toBe(1));
  expect(receivedIn(0)).toEqual(['a']);
});
