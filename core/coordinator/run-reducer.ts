/**
 * What the coordinator of a run decides, as a pure function of what it knows and what happened; docs/round-progress.md
 * has the transition table. `run-engine.ts` carries the effects out in their order, and `run-records.ts` reads the state
 * back from the store: whatever an effect acts upon, an effect before it has written.
 */
import type { ErrorReport } from '../shared/errors.ts';
import type { RunPause, RunStatus } from '../store/records.ts';
import { participantsOf, substitutesOf } from '../strategy/participation.ts';
import { maxParticipants } from '../transport/messages.ts';
import {
  arrivalMs,
  deadlineFrom,
  isPast,
  isRetryDue,
  moveTimes,
  withDeadlineAfter,
} from './run-deadlines.ts';
import {
  isOpen,
  isOver,
  type RunContext,
  type RunEffect,
  type RunEvent,
  type RunRules,
  type RunState,
  type SiteRow,
  type Surroundings,
} from './run-events.ts';

/** What is not taken while the run is paused: sites say it again, and work that was under way is done again. */
const waitsForPause: ReadonlySet<RunEvent['type']> = new Set([
  ...(['sites-changed', 'transferred', 'judged', 'progressed'] as const),
  ...(['declined', 'evaluated', 'unmergeable', 'damaged'] as const),
]);

/** These change nothing that the run's course depends on, or another event follows soon. */
const withoutConsequence: ReadonlySet<RunEvent['type']> = new Set([
  ...(['announced', 'transferred', 'progressed', 'clock-set'] as const),
]);

export function reduceRun(
  rules: RunRules,
  before: RunState,
  event: RunEvent,
  around: Surroundings,
): { state: RunState; effects: readonly RunEffect[] } {
  const effects: RunEffect[] = [];
  const emit = (...more: RunEffect[]) => effects.push(...more);
  const context = { rules, around, emit };
  const after = take(context, before, event);
  return { state: withoutConsequence.has(event.type) ? after : advance(context, after), effects };
}

/** What an event itself changes. */
function take(context: RunContext, state: RunState, event: RunEvent): RunState {
  const { emit } = context;
  if (state.pause !== null && waitsForPause.has(event.type)) return state;
  switch (event.type) {
    case 'resumed':
      return resume(context, state);
    case 'looked':
      return isRetryDue(context, state) ? goOn(context, state) : state;
    case 'clock-set':
      return moveTimes(context, state, event.byMs);
    case 'sites-changed':
      return joinOnline(context, state);
    case 'paused':
      return pause(context, state, event.pause);
    case 'continued':
      return goOn(context, state);
    case 'damaged':
      return askAgain(context, state, event);
    case 'announced':
    case 'judged':
    case 'transferred':
      return takeUpdate(context, state, event);
    case 'progressed': {
      const { siteId, body } = event;
      const row = state.current?.sites.get(siteId);
      if (!isOpen(state, body.round) || !trains(state, siteId)) return state;
      // A site that had declined, for instance because it was paused, may have changed its mind.
      if (row !== undefined && row.status !== 'working' && row.status !== 'absent') return state;
      emit({ type: 'record-progress', siteId, body });
      return expect(withRows(state, [siteId], { status: 'working', reason: null }), siteId);
    }
    case 'declined':
      return decline(context, state, event);
    case 'evaluated': {
      const { siteId, body } = event;
      const isNewest = body.stateSha256 === state.newest;
      const reported = new Set([...(isNewest ? state.reported : event.reported), siteId]);
      emit({ type: 'record-evaluation', siteId, body });
      if (awaitedOf(context, { ...state, reported }).length === 0)
        emit({ type: 'record-accuracy', stateSha256: body.stateSha256 });
      return isNewest ? { ...state, reported } : state;
    }
    case 'aggregated':
      return closeRound(context, state, event);
    case 'unmergeable':
      return dropUpdate(context, state, event);
    case 'stopped':
      return end(context, state, 'stopped', null);
    case 'failed':
      return end(context, state, 'failed', event.failure);
  }
}

/** What comes next, looked at after every event. Safe to ask at any time. */
function advance(context: RunContext, state: RunState): RunState {
  const { rules, around } = context;
  if (state.pause !== null) return state;
  switch (state.status) {
    case 'waiting':
      return around.online.length >= rules.quorum ? openRound(context, state) : state;
    case 'running':
      if (state.current === null) return openRound(context, state);
      if (state.current.status === 'aggregating')
        return receivedIn(state) < rules.quorum ? reopen(context, state) : aggregate(context, state);
      return mayClose(context, state) ? freeze(context, state) : addSubstitutes(context, state);
    case 'evaluating':
      return finishIfEvaluated(context, state);
    default:
      return state;
  }
}

/** The round waits for them from now on; an effect before this has recorded it. */
const expect = (state: RunState, ...siteIds: string[]): RunState => ({
  ...state,
  expected: new Set([...state.expected, ...siteIds]),
});

function withRows(state: RunState, siteIds: readonly string[], change: Partial<SiteRow>): RunState {
  const current = state.current!;
  const sites = new Map(current.sites);
  for (const siteId of siteIds) sites.set(siteId, { ...(sites.get(siteId) ?? untouched), ...change });
  return { ...state, current: { ...current, sites } };
}

const untouched: SiteRow = { status: 'working', updateSha256: null, reason: null };

/** Whether a site's update is asked for in the current round. */
const trains = ({ current }: RunState, siteId: string) => current?.participants?.includes(siteId) ?? true;

const receivedIn = ({ current }: RunState) =>
  [...(current?.sites.values() ?? [])].filter(({ status }) => status === 'received').length;

const isWaitedFor = ({ rules, around }: RunContext, siteId: string) =>
  around.offlineForMs(siteId) < rules.offlineGraceMs;

/** Sites whose counts for the newest state may still come. */
const awaitedOf = (context: RunContext, { expected, reported }: RunState) =>
  [...expected].filter((siteId) => !reported.has(siteId) && isWaitedFor(context, siteId));

/** Sites that train in the current round and have not delivered, been refused or declined. */
function undecided({ current, expected }: RunState): string[] {
  const drawn = current?.participants == null ? null : new Set(current.participants);
  return [...expected].filter((siteId) => {
    const status = current?.sites.get(siteId)?.status ?? 'working';
    return (drawn?.has(siteId) ?? true) && (status === 'working' || status === 'announced');
  });
}

const awaitedUpdates = (context: RunContext, state: RunState) =>
  undecided(state).filter((siteId) => isWaitedFor(context, siteId));

/** Who can be counted on for a round that opens: a coordinator that has just been started has heard nobody yet. */
const within = (context: RunContext, { expected }: RunState): string[] =>
  [...new Set([...context.around.online, ...[...expected].filter((id) => isWaitedFor(context, id))])].sort();

/** Whoever comes while no update is in belongs to the round; who comes later does when it works on it. */
function joinOnline({ around, emit }: RunContext, state: RunState): RunState {
  if (!isOpen(state, state.round) || receivedIn(state) > 0) return state;
  const joined = around.online.filter((siteId) => !state.expected.has(siteId));
  if (joined.length === 0) return state;
  emit({ type: 'record-members', round: state.round, joined });
  return expect(state, ...joined);
}

function mayClose(context: RunContext, state: RunState): boolean {
  const { rules, around } = context;
  const { deadlineAt, participants, sites } = state.current!;
  if (receivedIn(state) < rules.quorum) return false;
  if (isPast(around.now, deadlineAt, arrivalMs(rules))) return true;
  const awaited = awaitedUpdates(context, state);
  if (isPast(around.now, deadlineAt)) return awaited.every((id) => sites.get(id)?.status !== 'announced');
  if (awaited.length > 0) return false;
  // A site that trains has evaluated before. One that was not drawn only evaluates, unless it declined that.
  if (participants === null) return true;
  const drawn = new Set(participants);
  return awaitedOf(context, state).every((id) => drawn.has(id) || sites.get(id)?.status === 'absent');
}

function openRound(context: RunContext, state: RunState): RunState {
  const { rules, emit } = context;
  const { round, newest } = state;
  const deadlineAt = deadlineFrom(context);
  const members = within(context, state);
  const participants =
    rules.participation < 1 ? participantsOf(rules, round, members, maxParticipants) : null;
  const opened = { round, startSha256: newest, deadlineAt, participants, members };
  emit({ type: 'open-round', ...opened }, { type: 'publish' });
  return {
    ...state,
    status: 'running',
    current: { status: 'open', deadlineAt, closedAt: null, participants, sites: new Map() },
    expected: new Set(members),
  };
}

/**
 * When so many participants went away or were refused that those who are left cannot reach the quorum, or when the
 * deadline has passed without it: then the round begins anew for the substitutes, and who comes late still counts.
 */
function addSubstitutes(context: RunContext, state: RunState): RunState {
  const { rules, around, emit } = context;
  const { round, current } = state;
  if (current === null || current.participants === null) return state;
  const isLate = isPast(around.now, current.deadlineAt);
  const drawnBefore = new Set(current.participants);
  const missing = rules.quorum - receivedIn(state) - (isLate ? 0 : awaitedUpdates(context, state).length);
  const count = Math.min(missing, maxParticipants - drawnBefore.size);
  const others = around.online.filter((siteId) => !drawnBefore.has(siteId));
  if (count <= 0 || others.length === 0) return state;
  const added = substitutesOf(rules, round, others, { count, drawnBefore: drawnBefore.size });
  const participants = [...drawnBefore, ...added].sort();
  const deadlineAt = isLate ? deadlineFrom(context) : current.deadlineAt;
  emit({ type: 'add-participants', round, participants, added, deadlineAt }, { type: 'publish' });
  return expect({ ...state, current: { ...current, participants, deadlineAt } }, ...added);
}

/** After this no further update is welcome. */
function freeze(context: RunContext, state: RunState): RunState {
  const absent = undecided(state);
  context.emit(
    { type: 'freeze-round', round: state.round, absent },
    { type: 'stop-transfers', siteId: null },
  );
  const { current, ...rest } = withRows(state, absent, { status: 'absent', reason: noUpdateReason });
  return aggregate(context, { ...rest, current: { ...current!, status: 'aggregating' } });
}

export const noUpdateReason = 'No update arrived before the round closed.';

/** Sites that did not evaluate by now are left out of the accuracy of the state this round began with. */
function aggregate({ emit }: RunContext, state: RunState): RunState {
  emit({ type: 'record-accuracy', stateSha256: state.newest }, { type: 'aggregate', round: state.round });
  return state;
}

/** The store has the result by now. */
function closeRound(
  context: RunContext,
  state: RunState,
  { round, resultSha256, reported }: Extract<RunEvent, { type: 'aggregated' }>,
): RunState {
  const { rules, around, emit } = context;
  if (state.status !== 'running' || round !== state.round) return state;
  emit({ type: 'tidy-up', fromRound: round - 1 });
  const closed = { ...state, newest: resultSha256, reported: new Set(reported) };
  if (round + 1 < rules.rounds) return { ...closed, round: round + 1, current: null };
  const joined = around.online.filter((siteId) => !state.expected.has(siteId));
  if (joined.length > 0) emit({ type: 'record-members', round, joined });
  // So long its counts are awaited.
  const deadlineAt = deadlineFrom(context);
  emit({ type: 'move-deadline', round, deadlineAt }, { type: 'publish' });
  const closedAt = around.now.toISOString();
  const current = { ...state.current!, status: 'closed' as const, closedAt, deadlineAt };
  return expect({ ...closed, status: 'evaluating', current }, ...joined);
}

/** The merge goes on with the others, if they are a quorum. */
function dropUpdate(
  context: RunContext,
  before: RunState,
  { round, siteId, reason }: Extract<RunEvent, { type: 'unmergeable' }>,
): RunState {
  const { rules, emit } = context;
  const updateSha256 = before.current?.sites.get(siteId)?.updateSha256 ?? null;
  if (before.round !== round || before.current?.status !== 'aggregating' || updateSha256 === null)
    return before;
  emit({ type: 'drop-update', round, siteId, updateSha256, reason });
  emit({
    type: 'answer',
    siteId,
    receipt: { runId: rules.runId, round, updateSha256, accepted: false, reason, kind: 'final' },
  });
  return withRows(before, [siteId], { status: 'rejected', reason });
}

/** What was received is no quorum any more: the round waits as it did before it froze. */
function reopen(context: RunContext, state: RunState): RunState {
  const deadlineAt = deadlineFrom(context);
  context.emit({ type: 'reopen-round', round: state.round, deadlineAt }, { type: 'publish' });
  return { ...state, current: { ...state.current!, status: 'open', deadlineAt } };
}

function finishIfEvaluated(context: RunContext, state: RunState): RunState {
  const isLate = isPast(context.around.now, state.current!.deadlineAt);
  if (awaitedOf(context, state).length > 0 && !isLate) return state;
  context.emit({ type: 'record-accuracy', stateSha256: state.newest });
  return end(context, state, 'finished', null);
}

function end(
  { emit }: RunContext,
  state: RunState,
  status: 'finished' | 'stopped' | 'failed',
  failure: ErrorReport | null,
): RunState {
  if (isOver(state)) return state;
  emit({ type: 'end-run', status, failure }, { type: 'stop-transfers', siteId: null });
  emit({ type: 'tidy-up', fromRound: 0 }, { type: 'publish' });
  return { ...state, status, pause: null };
}

function decline(
  { emit }: RunContext,
  state: RunState,
  { siteId, body }: Extract<RunEvent, { type: 'declined' }>,
): RunState {
  if (body.round !== state.round) return state;
  if (state.status === 'evaluating') {
    const expected = new Set(state.expected);
    if (expected.delete(siteId)) emit({ type: 'record-departure', round: state.round, siteId });
    return { ...state, expected };
  }
  if (!isOpen(state, body.round) || state.current?.sites.get(siteId)?.status === 'received') return state;
  emit({ type: 'record-absence', siteId, body });
  return withRows(state, [siteId], { status: 'absent', reason: body.reason });
}

/** After a start of the process or the run: who was waited for gets as long to come back as any site that goes away. */
function resume(context: RunContext, state: RunState): RunState {
  context.emit({ type: 'tidy-up', fromRound: 0 });
  const resumed = isOver(state) || state.pause !== null ? state : withDeadlineAfter(context, state, 0);
  context.emit({ type: 'publish' });
  return joinOnline(context, resumed);
}

/** What a person asks for takes the place of a trouble: the run does not go on by itself then. */
function pause({ emit }: RunContext, state: RunState, given: RunPause): RunState {
  if (isOver(state) || (state.pause !== null && given.kind !== 'asked')) return state;
  const since = state.pause?.since ?? given.since;
  const paused = { ...given, since };
  emit({ type: 'pause-run', pause: paused }, { type: 'stop-transfers', siteId: null }, { type: 'publish' });
  return { ...state, pause: paused };
}

function goOn(context: RunContext, state: RunState): RunState {
  const { around, emit, rules } = context;
  if (state.pause === null && state.status !== 'failed') return state;
  const status = state.status === 'failed' ? statusBeforeFailure(rules, state) : state.status;
  emit({ type: 'continue-run', status });
  const since = state.pause === null ? around.now.getTime() : Date.parse(state.pause.since);
  const heldUpMs = Math.max(0, around.now.getTime() - since);
  const going = withDeadlineAfter(context, { ...state, status, pause: null }, heldUpMs);
  emit({ type: 'publish' });
  return joinOnline(context, going);
}

/** A run that failed keeps its rounds as they were. */
function statusBeforeFailure({ rounds }: RunRules, { round, current }: RunState): RunStatus {
  if (current === null) return round === 0 ? 'waiting' : 'running';
  return current.status === 'closed' && round + 1 >= rounds ? 'evaluating' : 'running';
}

/** A site keeps what it sent until the round has closed. Until it is here again a round that was being merged is open. */
function askAgain(
  context: RunContext,
  state: RunState,
  { round, siteId, updateSha256 }: Extract<RunEvent, { type: 'damaged' }>,
): RunState {
  const { emit } = context;
  const { current } = state;
  const row = current?.sites.get(siteId);
  if (state.status !== 'running' || round !== state.round || row?.updateSha256 !== updateSha256) return state;
  if (current?.status === 'closed' || (row.status !== 'received' && row.status !== 'announced')) return state;
  const deadlineAt = current?.status === 'aggregating' ? deadlineFrom(context) : null;
  emit({ type: 'ask-again', round, siteId, updateSha256, deadlineAt });
  const asked = withRows(expect(state, siteId), [siteId], { status: 'announced', reason: null });
  if (deadlineAt === null) return asked;
  emit({ type: 'publish' });
  return { ...asked, current: { ...asked.current!, status: 'open', deadlineAt } };
}

type UpdateEvent = Extract<RunEvent, { type: 'announced' | 'transferred' | 'judged' }>;

/** The way of an update: announced, fetched, judged, answered. */
function takeUpdate({ rules, emit }: RunContext, state: RunState, event: UpdateEvent): RunState {
  const { siteId, body } = event;
  const { round, update } = body;
  const isCurrent = round === state.round && state.current !== null;
  const row = isCurrent ? (state.current?.sites.get(siteId) ?? null) : 'row' in event ? event.row : null;
  const isSame = row?.updateSha256 === update.sha256;
  const answer = (refusal: Refusal | null) => {
    const receipt = { runId: rules.runId, round, updateSha256: update.sha256, accepted: refusal === null };
    emit({ type: 'answer', siteId, receipt: { ...receipt, ...refusal } });
  };
  const reject = (type: 'refuse-update' | 'reject-update', reason: string) => {
    emit({ type, siteId, body, reason });
    answer({ reason, kind: 'final' });
    return withRows(state, [siteId], { status: 'rejected', updateSha256: update.sha256, reason });
  };
  if (event.type !== 'announced') {
    // Closed meanwhile, or another update of the site took its place.
    if (!isOpen(state, round) || !isSame || row?.status === 'received') return state;
    if (event.type === 'transferred') {
      emit({ type: 'judge', siteId, body });
      return state;
    }
    if (typeof event.verdict === 'string') return reject('reject-update', event.verdict);
    emit({ type: 'accept-update', siteId, body, parameters: event.verdict });
    answer(null);
    return withRows(state, [siteId], { status: 'received' });
  }
  const settled = settledAnswer(state, row, event);
  if (settled !== undefined) {
    answer(settled);
    return state;
  }
  if (!isSame) emit({ type: 'stop-transfers', siteId });
  if (event.refusal !== null) return expect(reject('refuse-update', event.refusal), siteId);
  // From here on the update counts as sent, whatever becomes of it.
  emit({ type: 'record-arrival', siteId, body }, { type: 'fetch', siteId, body });
  return withRows(expect(state, siteId), [siteId], {
    status: 'announced',
    updateSha256: update.sha256,
    reason: null,
  });
}

/** `later`: another time the answer may be another one, so that the site announces its update again. */
type Refusal = { reason: string; kind: 'final' | 'later' };

const never = (reason: string): Refusal => ({ reason, kind: 'final' });
const notNow = (reason: string): Refusal => ({ reason, kind: 'later' });

/** The answer that is known already: null when accepted, why not when refused, undefined when still to be found. */
function settledAnswer(
  state: RunState,
  row: SiteRow | null,
  { siteId, body: { round, update } }: UpdateEvent,
): Refusal | null | undefined {
  const isSame = row?.updateSha256 === update.sha256;
  if (isSame && row.status === 'received') return null;
  if (isSame && row.status === 'rejected') return never(row.reason ?? 'Rejected.');
  if (!isOpen(state, round)) return isPastRound(state, round) ? never(roundIsClosed) : notNow(roundIsNotOpen);
  if (!trains(state, siteId)) return notNow('The site was not drawn for this round; it only evaluates.');
  if (row?.status === 'received') return never('Another update from this site has already been accepted.');
  return undefined;
}

const roundIsClosed = 'The round has closed; the site takes part in the next one.';
const roundIsNotOpen = 'The coordinator takes no update for this round now.';

/** A round that is being merged may open again, and so may a run that failed; none that is behind them does. */
function isPastRound({ status, round: current, current: state }: RunState, round: number): boolean {
  if (round !== current) return round < current;
  return status === 'finished' || status === 'stopped' || state?.status === 'closed';
}
