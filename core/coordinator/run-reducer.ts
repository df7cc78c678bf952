/**
 * What the coordinator of a run decides, as a pure function of what it knows and what happened; docs/round-progress.md
 * has the transition table. `run-engine.ts` carries the effects out in their order, and `run-records.ts` reads the state
 * back from the store: whatever an effect acts upon, an effect before it has written.
 */
import type { RunConfig } from '../config/run-config.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { RoundRecord, RoundSiteRecord, RunStatus } from '../store/records.ts';
import { participantsOf, substitutesOf } from '../strategy/participation.ts';
import type {
  AnnounceBody,
  DeclinedBody,
  EvaluationBody,
  ProgressBody,
  ReceiptBody,
} from '../transport/messages.ts';
import { maxParticipants } from '../transport/messages.ts';

export type RunRules = Pick<RunConfig, 'quorum' | 'participation' | 'seed' | 'rounds' | 'roundDeadlineMs'> & {
  runId: string;
  /** How long a site that lost its connection may hold up a round. */
  offlineGraceMs: number;
};

export type SiteRow = Pick<RoundSiteRecord, 'status' | 'updateSha256' | 'reason'>;

export interface RoundState extends Pick<RoundRecord, 'status' | 'deadlineAt' | 'closedAt' | 'participants'> {
  sites: ReadonlyMap<string, SiteRow>;
}

export interface RunState {
  status: RunStatus;
  round: number;
  /** The round of that number; null until it opens. */
  current: RoundState | null;
  /** Hash of the newest global state, which the open round starts from. */
  newest: string;
  /** Sites whose counts for that state are in. */
  reported: ReadonlySet<string>;
  /** In memory only: the sites that were here when the round began or came since. */
  expected: ReadonlySet<string>;
}

/** The rest of the world at the moment of an event. */
export interface Surroundings {
  now: Date;
  /** Sites that are enrolled, not revoked and connected. */
  online: readonly string[];
  /** How long ago a site was last connected; 0 when it is online. */
  offlineForMs(siteId: string): number;
}

interface FromSite<Body> {
  siteId: string;
  body: Body;
}

export type RunEvent =
  | { type: 'resumed' | 'looked' | 'sites-changed' | 'stopped' }
  /**
   * `row`: what the store has of the site in a round that is not the current one. `refusal`: why not a byte of the update
   * is asked for, if it is not.
   */
  | ({ type: 'announced'; row: SiteRow | null; refusal: string | null } & FromSite<AnnounceBody>)
  | ({ type: 'transferred' } & FromSite<AnnounceBody>)
  /** `verdict`: number of values in a good update, or what is wrong with it. */
  | ({ type: 'judged'; verdict: number | string } & FromSite<AnnounceBody>)
  | ({ type: 'progressed' } & FromSite<ProgressBody>)
  | ({ type: 'declined' } & FromSite<DeclinedBody>)
  /** `reported`: sites with counts for that state in the store. */
  | ({ type: 'evaluated'; reported: readonly string[] } & FromSite<EvaluationBody>)
  | { type: 'aggregated'; round: number; resultSha256: string; reported: readonly string[] }
  /** An update that was accepted stops the merge of all. */
  | { type: 'unmergeable'; round: number; siteId: string; reason: string }
  | { type: 'failed'; failure: ErrorReport };

/** To the store, each in one transaction. */
export type RunWrite =
  | {
      type: 'open-round';
      round: number;
      startSha256: string;
      deadlineAt: string;
      participants: string[] | null;
    }
  | {
      type: 'add-participants';
      round: number;
      participants: string[];
      added: string[];
      deadlineAt: string | null;
    }
  | ({ type: 'record-arrival' } & FromSite<AnnounceBody>)
  | ({ type: 'accept-update'; parameters: number } & FromSite<AnnounceBody>)
  /** Of the first nothing is here; the bytes of the second go. */
  | ({ type: 'refuse-update' | 'reject-update'; reason: string } & FromSite<AnnounceBody>)
  | { type: 'drop-update'; round: number; siteId: string; updateSha256: string; reason: string }
  | { type: 'reopen-round'; round: number; deadlineAt: string }
  | ({ type: 'record-progress' } & FromSite<ProgressBody>)
  | ({ type: 'record-absence' } & FromSite<DeclinedBody>)
  | ({ type: 'record-evaluation' } & FromSite<EvaluationBody>)
  | { type: 'record-accuracy'; stateSha256: string }
  | { type: 'freeze-round'; round: number; absent: string[] }
  | { type: 'end-run'; status: 'finished' | 'stopped' | 'failed'; failure: ErrorReport | null };

export type RunEffect =
  | RunWrite
  /** Answered by the events `transferred` (in its own time), `judged` and `aggregated`. */
  | ({ type: 'fetch' | 'judge' } & FromSite<AnnounceBody>)
  | { type: 'aggregate'; round: number }
  | { type: 'answer'; siteId: string; receipt: ReceiptBody }
  /** Of one site, or of all. */
  | { type: 'stop-transfers'; siteId: string | null }
  | { type: 'publish' }
  /** What the run needs no more of this round and those after it. */
  | { type: 'tidy-up'; fromRound: number };

export const isOver = ({ status }: Pick<RunState, 'status'>) =>
  status === 'finished' || status === 'failed' || status === 'stopped';

/** Whether updates for this round are still welcome. */
export const isOpen = ({ status, round: current, current: state }: RunState, round: number) =>
  status === 'running' && current === round && state?.status === 'open';

/** These change nothing that the run's course depends on, or another event follows at once. */
const withoutConsequence: ReadonlySet<RunEvent['type']> = new Set(['announced', 'transferred', 'progressed']);

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

interface Context {
  rules: RunRules;
  around: Surroundings;
  emit(...effects: RunEffect[]): void;
}

/** What an event itself changes. */
function take(context: Context, state: RunState, event: RunEvent): RunState {
  const { around, emit } = context;
  switch (event.type) {
    case 'resumed':
      emit({ type: 'tidy-up', fromRound: 0 }, { type: 'publish' });
      return expect(
        { ...state, expected: new Set(around.online) },
        ...(state.current?.sites.keys() ?? []),
        ...(state.current?.participants ?? []),
      );
    case 'looked':
      return state;
    case 'sites-changed':
      // Right after a start nobody is online yet: whoever comes while no update is in belongs to the round.
      if (isOver(state) || state.status === 'waiting' || receivedIn(state) > 0) return state;
      return expect(state, ...around.online);
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
function advance(context: Context, state: RunState): RunState {
  const { rules, around } = context;
  switch (state.status) {
    case 'waiting':
      return around.online.length >= rules.quorum ? openRound(context, state) : state;
    case 'running':
      if (state.current === null) return openRound(context, state);
      if (state.current.status === 'aggregating') return aggregate(context, state);
      return mayClose(context, state) ? freeze(context, state) : addSubstitutes(context, state);
    case 'evaluating':
      return finishIfEvaluated(context, state);
    default:
      return state;
  }
}

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

const isWaitedFor = ({ rules, around }: Context, siteId: string) =>
  around.offlineForMs(siteId) < rules.offlineGraceMs;

/** Sites whose counts for the newest state may still come. */
const awaitedOf = (context: Context, { expected, reported }: RunState) =>
  [...expected].filter((siteId) => !reported.has(siteId) && isWaitedFor(context, siteId));

/** Sites that train in the current round and have not delivered, been refused or declined. */
function undecided({ current, expected }: RunState): string[] {
  const drawn = current?.participants == null ? null : new Set(current.participants);
  return [...expected].filter((siteId) => {
    const status = current?.sites.get(siteId)?.status ?? 'working';
    return (drawn?.has(siteId) ?? true) && (status === 'working' || status === 'announced');
  });
}

const awaitedUpdates = (context: Context, state: RunState) =>
  undecided(state).filter((siteId) => isWaitedFor(context, siteId));

const isPast = (now: Date, from: string | null, afterMs = 0) =>
  from !== null && now.getTime() >= Date.parse(from) + afterMs;

function mayClose(context: Context, state: RunState): boolean {
  const { rules, around } = context;
  const { deadlineAt, participants, sites } = state.current!;
  if (receivedIn(state) < rules.quorum) return false;
  if (isPast(around.now, deadlineAt)) return true;
  if (awaitedUpdates(context, state).length > 0) return false;
  // A site that trains has evaluated before. One that was not drawn only evaluates, unless it declined that.
  if (participants === null) return true;
  const drawn = new Set(participants);
  return awaitedOf(context, state).every((id) => drawn.has(id) || sites.get(id)?.status === 'absent');
}

const deadlineFrom = ({ rules, around }: Context) =>
  new Date(around.now.getTime() + rules.roundDeadlineMs).toISOString();

function openRound(context: Context, state: RunState): RunState {
  const { rules, around, emit } = context;
  const { round, newest } = state;
  const deadlineAt = deadlineFrom(context);
  const participants =
    rules.participation < 1 ? participantsOf(rules, round, around.online, maxParticipants) : null;
  emit({ type: 'open-round', round, startSha256: newest, deadlineAt, participants }, { type: 'publish' });
  return {
    ...state,
    status: 'running',
    current: { status: 'open', deadlineAt, closedAt: null, participants, sites: new Map() },
    expected: new Set(around.online),
  };
}

/**
 * When so many participants went away or were refused that those who are left cannot reach the quorum, or when the
 * deadline has passed without it: then the round begins anew for the substitutes, and who comes late still counts.
 */
function addSubstitutes(context: Context, state: RunState): RunState {
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
function freeze(context: Context, state: RunState): RunState {
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
function aggregate({ emit }: Context, state: RunState): RunState {
  emit({ type: 'record-accuracy', stateSha256: state.newest }, { type: 'aggregate', round: state.round });
  return state;
}

/** The store has the result by now. */
function closeRound(
  { rules, around, emit }: Context,
  state: RunState,
  { round, resultSha256, reported }: Extract<RunEvent, { type: 'aggregated' }>,
): RunState {
  if (state.status !== 'running' || round !== state.round) return state;
  emit({ type: 'tidy-up', fromRound: round - 1 });
  const closed = { ...state, newest: resultSha256, reported: new Set(reported) };
  if (round + 1 < rules.rounds) return { ...closed, round: round + 1, current: null };
  emit({ type: 'publish' });
  const current = { ...state.current!, status: 'closed' as const, closedAt: around.now.toISOString() };
  return { ...closed, status: 'evaluating', current, expected: new Set(around.online) };
}

/** The merge goes on with the others; without a quorum of them the round waits as it did before it froze. */
function dropUpdate(
  context: Context,
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
  const state = withRows(before, [siteId], { status: 'rejected', reason });
  if (receivedIn(state) >= rules.quorum) return state;
  const deadlineAt = deadlineFrom(context);
  emit({ type: 'reopen-round', round, deadlineAt }, { type: 'publish' });
  return { ...state, current: { ...state.current!, status: 'open', deadlineAt } };
}

function finishIfEvaluated(context: Context, state: RunState): RunState {
  const isLate = isPast(context.around.now, state.current!.closedAt, context.rules.roundDeadlineMs);
  if (awaitedOf(context, state).length > 0 && !isLate) return state;
  context.emit({ type: 'record-accuracy', stateSha256: state.newest });
  return end(context, state, 'finished', null);
}

function end(
  { emit }: Context,
  state: RunState,
  status: 'finished' | 'stopped' | 'failed',
  failure: ErrorReport | null,
): RunState {
  if (isOver(state)) return state;
  emit({ type: 'end-run', status, failure }, { type: 'stop-transfers', siteId: null });
  emit({ type: 'tidy-up', fromRound: 0 }, { type: 'publish' });
  return { ...state, status };
}

function decline(
  { emit }: Context,
  state: RunState,
  { siteId, body }: Extract<RunEvent, { type: 'declined' }>,
): RunState {
  if (body.round !== state.round) return state;
  if (state.status === 'evaluating') {
    const expected = new Set(state.expected);
    expected.delete(siteId);
    return { ...state, expected };
  }
  if (!isOpen(state, body.round) || state.current?.sites.get(siteId)?.status === 'received') return state;
  emit({ type: 'record-absence', siteId, body });
  return withRows(state, [siteId], { status: 'absent', reason: body.reason });
}

type UpdateEvent = Extract<RunEvent, { type: 'announced' | 'transferred' | 'judged' }>;

/** The way of an update: announced, fetched, judged, answered. */
function takeUpdate({ rules, emit }: Context, before: RunState, event: UpdateEvent): RunState {
  const { siteId, body } = event;
  const { round, update } = body;
  const state = event.type === 'announced' && isOpen(before, round) ? expect(before, siteId) : before;
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
  if (event.refusal !== null) return reject('refuse-update', event.refusal);
  // From here on the update counts as sent, whatever becomes of it.
  emit({ type: 'record-arrival', siteId, body }, { type: 'fetch', siteId, body });
  return withRows(state, [siteId], { status: 'announced', updateSha256: update.sha256, reason: null });
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
