/** What is due in a run, and when: deadlines and pauses, also where somebody sets the clock or the run stood still. */
import type { RunPause } from '../store/records.ts';
import { isOver, type RunContext, type RunRules, type RunState } from './run-events.ts';

export const isPast = (now: Date, at: string | null, afterMs = 0) =>
  at !== null && now.getTime() >= Date.parse(at) + afterMs;

/** Beyond the deadline an update that was announced may still arrive, for as long as a site may take to come back. */
export const arrivalMs = ({ offlineGraceMs, roundDeadlineMs }: RunRules) =>
  Math.min(offlineGraceMs, roundDeadlineMs / 2);

export const deadlineFrom = ({ rules, around }: RunContext) =>
  new Date(around.now.getTime() + rules.roundDeadlineMs).toISOString();

/**
 * No deadline passes within the grace, and none is further away than one that begins now: then the clock was ahead when it was
 * written down, and is right since.
 * @param heldUpMs for how long the run stood still: time that counts for no deadline
 */
export function withDeadlineAfter(context: RunContext, state: RunState, heldUpMs: number): RunState {
  const { rules, around } = context;
  const { deadlineAt } = state.current ?? { deadlineAt: null };
  if (deadlineAt === null) return state;
  const [least, most] = [rules.offlineGraceMs, Math.max(rules.offlineGraceMs, rules.roundDeadlineMs)];
  const leftMs = Date.parse(deadlineAt) + heldUpMs - around.now.getTime();
  const boundedMs = Math.min(most, Math.max(least, leftMs));
  return moveDeadline(context, state, boundedMs - leftMs + heldUpMs);
}

function moveDeadline({ emit }: RunContext, state: RunState, byMs: number): RunState {
  const { current, round } = state;
  if (current === null || current.deadlineAt === null || current.status === 'aggregating' || byMs === 0)
    return state;
  const deadlineAt = new Date(Date.parse(current.deadlineAt) + byMs).toISOString();
  emit({ type: 'move-deadline', round, deadlineAt });
  return { ...state, current: { ...current, deadlineAt } };
}

/** What is due is due after as long as before: no clock that somebody sets ends a round, or makes it wait for days. */
export function moveTimes(context: RunContext, state: RunState, byMs: number): RunState {
  if (isOver(state)) return state;
  const moved = moveDeadline(context, state, byMs);
  const pause = moved.pause && movedPause(moved.pause, byMs);
  if (pause !== null) context.emit({ type: 'move-pause', pause });
  context.emit({ type: 'publish' });
  return { ...moved, pause };
}

const movedPause = (pause: RunPause, byMs: number): RunPause => {
  const later = (at: string) => new Date(Date.parse(at) + byMs).toISOString();
  return { ...pause, since: later(pause.since), retryAt: pause.retryAt && later(pause.retryAt) };
};

/** Also where the pause began in what is the future now: the clock was set back while nobody ran. */
export const isRetryDue = ({ around: { now } }: RunContext, { pause }: RunState): boolean =>
  pause?.retryAt != null && (isPast(now, pause.retryAt) || !isPast(now, pause.since));
