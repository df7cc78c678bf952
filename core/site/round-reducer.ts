/**
 * What a site decides: a pure function from what it knows and what happened to what it knows then and what is to be done.
 * docs/round-progress.md has the table. Nothing here is persisted. A site that was killed begins with `initialState`,
 * and effects look into the store for what is done already; so each may be run again, and its process may die before,
 * in and after it.
 */
import { AppError, type ErrorReport } from '../shared/errors.ts';
import type { ManifestBody } from '../transport/messages.ts';
import { restoredForOthers } from './restored-words.ts';

export type SiteActivity =
  | 'waiting'
  | 'approval-needed'
  | 'declined'
  | 'refused'
  | 'downloading'
  | 'evaluating'
  | 'training'
  | 'uploading'
  | 'restored'
  | 'paused';

/** How far the site is with what the newest manifest asks for; `idle` when it asks for nothing. */
export type Phase =
  | 'idle'
  | 'paused'
  | 'restored'
  | 'approving'
  | 'unapproved'
  | 'refused'
  | 'fetching'
  | 'evaluating'
  | 'training'
  | 'announcing'
  | 'done'
  | 'failed'
  | 'closed';

export interface SiteState {
  readonly siteId: string;
  readonly phase: Phase;
  readonly paused: boolean;
  /** What is said of a store that went back in time, until a person has confirmed it; null in all other cases. */
  readonly restored: ErrorReport | null;
  /** The newest one that was not refused. */
  readonly manifest: ManifestBody | null;
  /** What the work in progress or done is for; empty when there is none. */
  readonly key: string;
  /** Grows with each beginning and end of work: an answer that bears an older one comes too late. */
  readonly ticket: number;
  /** The last reason sent to the coordinator why it need not wait. */
  readonly declined: string;
  readonly activity: SiteActivity;
  readonly problem: ErrorReport | null;
}

/** A step of the work on a round. They run one at a time; `announce` makes what leaves known to the coordinator. */
export type Step = 'fetch' | 'evaluate' | 'train' | 'announce';

export type Effect =
  | { type: 'recordRun'; manifest: ManifestBody }
  /** Takes back what was made of subjects whose consent was withdrawn; answers `discarded` if there was something. */
  | { type: 'discardWithdrawn' }
  /** Takes back what was announced of runs that a person declined or the policy refuses now. */
  | { type: 'takeBackDisallowed' }
  /** Takes back all that was announced and not received: its store went back in time. */
  | { type: 'takeBackAll' }
  /** Holds contract and policy against the manifest. Answers `approved`, `approvalMissing`, `declinedHere`, `refused` or `baseMissing`. */
  | { type: 'examine'; manifest: ManifestBody; ticket: number }
  /** Answers `fetched`, `evaluated`, `trained`, `announced`, or `settled` when the round waits for nothing any more. */
  | { type: Step; manifest: ManifestBody; ticket: number }
  | { type: 'decline'; manifest: ManifestBody; reason: string }
  /** The same of this run, which was refused for another reason. */
  | { type: 'takeBack'; manifest: ManifestBody }
  /** Ends the step in progress and a retry that is due. */
  | { type: 'stop' }
  | { type: 'scheduleRetry' };

/** What happened. Where it changes the store, it is in the store already. */
export type SiteEvent =
  | { type: 'started' | 'retryDue' | 'consentChanged' | 'discarded' | 'paused' | 'resumed' | 'closed' }
  /** The store went back in time, or a person has confirmed that it did. */
  | { type: 'restored'; report: ErrorReport | null }
  /** A person approved or declined something, or changed the policy. */
  | { type: 'decided' }
  | { type: 'manifestReceived'; manifest: ManifestBody }
  | { type: 'manifestRefused'; manifest: ManifestBody; error: ErrorReport }
  /** What has no round: it cannot be read, or is of another version. */
  | { type: 'unreadable'; error: ErrorReport }
  | { type: 'approved' | 'approvalMissing'; ticket: number }
  | { type: 'declinedHere'; ticket: number; reason: string }
  /** `again`: it may be allowed later without anybody doing anything. */
  | { type: 'refused'; ticket: number; error: ErrorReport; again: boolean }
  | { type: 'fetched' | 'evaluated' | 'trained' | 'announced' | 'settled'; ticket: number }
  | { type: 'baseMissing'; ticket: number; error: ErrorReport }
  | { type: 'began'; ticket: number; activity: SiteActivity }
  /** An effect threw; those behind it in its list were not run. */
  | { type: 'failed'; ticket: number; effect: Effect['type']; error: ErrorReport }
  | { type: 'receipt'; accepted: boolean; reason?: string | undefined };

export interface Decision {
  state: SiteState;
  effects: Effect[];
}

export const initialState = (
  siteId: string,
  paused: boolean,
  restored: ErrorReport | null = null,
): SiteState => ({
  siteId,
  phase: restored ? 'restored' : paused ? 'paused' : 'idle',
  paused,
  restored,
  manifest: null,
  key: '',
  ticket: 0,
  declined: '',
  activity: restored ? 'restored' : paused ? 'paused' : 'waiting',
  problem: restored,
});

const asksForWork = ({ phase }: ManifestBody) => phase === 'train' || phase === 'evaluate';

/** Whether the coordinator drew this site for the round; all sites when it draws none. */
export const trains = ({ phase, participants }: ManifestBody, siteId: string) =>
  phase === 'train' && (participants === null || participants.includes(siteId));

/** NOT_FOUND: the coordinator has moved on, and its next manifest will say to what. */
const passing = ['BROKER_UNREACHABLE', 'BLOB_CORRUPT', 'NOT_FOUND'];
const inWork: readonly Phase[] = [
  'approving',
  'refused',
  'fetching',
  'evaluating',
  'training',
  'announcing',
  'done',
];

/** Problems that go when a person decides anew, or the clock is right again. */
const ofPolicy: ReadonlySet<string> = new Set([
  'POLICY_REFUSED',
  'POLICY_CHANGED',
  'CONTRACT_BROKEN',
  'CLOCK_RAN_BACK',
  'CONSENTS_CHANGED',
]);

const withoutBaseProblem = ({ problem }: SiteState) => (problem?.code === 'MODEL_UNKNOWN' ? null : problem);

export function reduce(state: SiteState, event: SiteEvent): Decision {
  const unchanged = { state, effects: [] };
  if (state.phase === 'closed') return unchanged;
  // An answer to what is not asked any more.
  if ('ticket' in event && event.ticket !== state.ticket) return unchanged;
  switch (event.type) {
    case 'manifestReceived':
      return consider({ ...state, manifest: event.manifest });
    case 'manifestRefused':
      return decline({ ...state, problem: event.error }, event.manifest, event.error.message);
    case 'unreadable':
      return { state: { ...state, problem: event.error }, effects: [] };
    case 'decided':
      return consider({
        ...state,
        key: '',
        problem: ofPolicy.has(state.problem?.code ?? '') ? null : state.problem,
      });
    case 'restored':
      return consider({
        ...state,
        ...{ restored: event.report, key: '', problem: event.report },
        activity: event.report === null ? 'waiting' : 'restored',
      });
    case 'paused':
      return consider({ ...state, paused: true });
    case 'resumed':
      return state.paused ? consider({ ...state, paused: false, activity: 'waiting' }) : unchanged;
    case 'started':
      return consider(state);
    case 'retryDue':
      // What a policy refused for now, such as in quiet hours, is looked at again.
      return consider(state.phase === 'refused' ? { ...state, key: '' } : state);
    case 'consentChanged':
      // What is counted now must not count the subject; an update is looked at by the effect.
      return consider(state.phase === 'evaluating' ? { ...state, key: '' } : state);
    case 'discarded':
      // What was said of an update that was on its way is to be said anew.
      return state.phase === 'approving' ? unchanged : consider({ ...state, key: '', declined: '' });
    case 'receipt':
      return { state: afterReceipt(state, event), effects: [] };
    case 'began':
      return { state: { ...state, activity: event.activity }, effects: [] };
    case 'failed':
      return afterFailure(state, event.effect, event.error);
    case 'closed':
      return stop(state, { phase: 'closed' });
    default:
      return state.manifest === null ? unchanged : progress(state, event, state.manifest);
  }
}

/** Brings what the site does in line with the newest manifest; the same again changes nothing. */
function consider(state: SiteState): Decision {
  const { manifest } = state;
  // At each start, and also while the site is paused: what waits to be sent leaves without a step of the work.
  const bookkeeping: Effect[] = [{ type: 'discardWithdrawn' }, { type: 'takeBackDisallowed' }];
  if (manifest !== null) bookkeeping.unshift({ type: 'recordRun', manifest });
  if (state.restored !== null) {
    const change = { phase: 'restored', activity: 'restored', problem: state.restored } as const;
    const stopped = stop(state, change, [...bookkeeping, { type: 'takeBackAll' }]);
    return manifest === null ? stopped : also(stopped, (at) => decline(at, manifest, restoredForOthers));
  }
  if (state.paused) {
    const stopped = stop(state, { phase: 'paused', activity: 'paused' }, bookkeeping);
    return manifest === null ? stopped : also(stopped, (at) => decline(at, manifest, 'The site is paused.'));
  }
  if (manifest === null || !asksForWork(manifest) || manifest.state === null)
    return stop(state, { phase: 'idle', activity: 'waiting' }, bookkeeping);
  const part = trains(manifest, state.siteId) ? 'train' : 'evaluate';
  const key = [manifest.runId, manifest.phase, part, manifest.round, manifest.state.sha256].join(' ');
  if (key === state.key && inWork.includes(state.phase)) return { state, effects: bookkeeping };
  const begun = stop(state, { phase: 'approving', key }, bookkeeping);
  const { ticket } = begun.state;
  return { ...begun, effects: [...begun.effects, { type: 'examine', manifest, ticket }] };
}

/** The work on a round, step by step. */
function progress(
  state: SiteState,
  event: Extract<SiteEvent, { ticket: number }>,
  manifest: ManifestBody,
): Decision {
  const { ticket, phase } = state;
  const next = (step: Step, then: Phase, change: Partial<SiteState> = {}): Decision => ({
    state: { ...state, ...change, phase: then },
    effects: [{ type: step, manifest, ticket }],
  });
  const done = (activity: SiteActivity): Decision => ({
    state: { ...state, phase: 'done', activity, problem: null },
    effects: [],
  });
  switch (`${phase} ${event.type}`) {
    case 'approving approvalMissing':
      // The others need not wait for a person here; the site joins in when it is approved.
      return decline(
        { ...state, phase: 'unapproved', activity: 'approval-needed', problem: withoutBaseProblem(state) },
        manifest,
        'The site has not approved this run yet.',
      );
    case 'approving declinedHere': {
      const { reason } = event as Extract<SiteEvent, { type: 'declinedHere' }>;
      const said = reason === '' ? '.' : `: ${reason}`;
      const declined = { ...state, phase: 'refused', activity: 'declined', problem: null } as const;
      return decline(declined, manifest, `The site declined this run${said}`);
    }
    case 'approving refused': {
      const { error, again } = event as Extract<SiteEvent, { type: 'refused' }>;
      const after = { ...state, phase: 'refused', activity: 'refused', problem: error } as const;
      // In quiet hours what is done already may still leave.
      const refused = also({ state: after, effects: again ? [] : [{ type: 'takeBack', manifest }] }, (at) =>
        decline(at, manifest, error.message),
      );
      return again ? also(refused, (at) => ({ state: at, effects: [{ type: 'scheduleRetry' }] })) : refused;
    }
    case 'approving baseMissing': {
      const { error } = event as Extract<SiteEvent, { type: 'baseMissing' }>;
      // A person who is asked for approval learns at once that the base model has to be imported first.
      const missing = decline(
        { ...state, phase: 'unapproved', activity: 'approval-needed', problem: error },
        manifest,
        error.message,
      );
      return also(missing, (at) => ({ state: at, effects: [{ type: 'scheduleRetry' }] }));
    }
    case 'approving approved':
      return next('fetch', 'fetching', {
        ...{ declined: '', activity: 'waiting' },
        problem: ofPolicy.has(state.problem?.code ?? '') ? null : withoutBaseProblem(state),
      });
    case 'fetching fetched':
      return next('evaluate', 'evaluating');
    case 'evaluating evaluated':
      return trains(manifest, state.siteId) ? next('train', 'training') : done('waiting');
    case 'training trained':
      return next('announce', 'announcing');
    case 'training announced':
    case 'announcing announced':
      return done('uploading');
    case 'training settled':
      return done('waiting');
    default:
      return { state, effects: [] };
  }
}

/** Tried again while the round is open: a broker comes back, a consent is recorded, a disk gets space. */
function afterFailure(state: SiteState, effect: Effect['type'], error: ErrorReport): Decision {
  const retry: Effect = { type: 'scheduleRetry' };
  // On a full disk not even that can be written; at worst the deadline of the round ends the wait for this site.
  if (effect === 'decline')
    return { state: { ...state, problem: state.problem ?? error, declined: '' }, effects: [retry] };
  // What breaks the contract does so the next time, too.
  const isBreach = error.code === 'CONTRACT_BROKEN' && state.manifest !== null;
  if (isBreach) {
    const { key } = state;
    const refused = stop(state, { phase: 'refused', key, activity: 'refused', problem: error });
    return also(refused, (at) => decline(at, state.manifest!, error.message));
  }
  const failed = stop(state, { phase: 'failed', activity: 'waiting', problem: error });
  const { manifest } = state;
  const declined =
    manifest === null || passing.includes(error.code)
      ? failed
      : also(failed, (at) => decline(at, manifest, error.message));
  return also(declined, (at) => ({ state: at, effects: [retry] }));
}

function afterReceipt(state: SiteState, { accepted, reason }: Extract<SiteEvent, { type: 'receipt' }>) {
  const refusal = reason ?? 'The coordinator did not accept this update.';
  return {
    ...state,
    problem: accepted ? state.problem : new AppError('UPDATE_REJECTED', refusal).toReport(),
    // It may be at work on the next round already.
    activity: state.activity === 'uploading' ? 'waiting' : state.activity,
  } satisfies SiteState;
}

/** Ends the work, and makes every answer that is still to come one that comes too late. */
function stop(state: SiteState, change: Partial<SiteState>, then: readonly Effect[] = []): Decision {
  return {
    state: { ...state, key: '', ...change, ticket: state.ticket + 1 },
    effects: [{ type: 'stop' }, ...then],
  };
}

/** Tells the coordinator, once a round and once for the evaluation at the end, not to wait for this site. */
function decline(state: SiteState, manifest: ManifestBody, reason: string): Decision {
  const { runId, phase, round } = manifest;
  const declined = `${runId} ${phase} ${round} ${reason}`;
  if (!asksForWork(manifest) || state.declined === declined) return { state, effects: [] };
  return { state: { ...state, declined }, effects: [{ type: 'decline', manifest, reason }] };
}

function also({ state, effects }: Decision, decide: (state: SiteState) => Decision): Decision {
  const further = decide(state);
  return { state: further.state, effects: [...effects, ...further.effects] };
}
