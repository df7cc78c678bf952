/** What the coordinator of a run knows, what can happen in it, and what follows: the words of run-reducer.ts. */
import type { RunConfig } from '../config/run-config.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { RoundRecord, RoundSiteRecord, RunPause, RunStatus } from '../store/records.ts';
import type {
  AnnounceBody,
  DeclinedBody,
  EvaluationBody,
  ProgressBody,
  ReceiptBody,
} from '../transport/messages.ts';

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
  /** Sites that the round waits for: who was here when it began or came since. Before it opens those of the round before. */
  expected: ReadonlySet<string>;
  /** Why nothing happens in the run now; null when it goes on. */
  pause: RunPause | null;
}

/** The rest of the world at the moment of an event. */
export interface Surroundings {
  now: Date;
  /** Sites that are enrolled, not revoked and connected. */
  online: readonly string[];
  /** How long ago a site was last connected; 0 when it is online. */
  offlineForMs(siteId: string): number;
}

export interface FromSite<Body> {
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
  /** An update that was sent has other bytes here now. */
  | { type: 'damaged'; round: number; siteId: string; updateSha256: string }
  | { type: 'paused'; pause: RunPause }
  /** The clock of this computer was set, forward or back (negative), while the process ran. */
  | { type: 'clock-set'; byMs: number }
  /** Also of a run that had failed. */
  | { type: 'continued' }
  | { type: 'failed'; failure: ErrorReport };

/** To the store, each in one transaction. */
export type RunWrite =
  | {
      type: 'open-round';
      round: number;
      startSha256: string;
      deadlineAt: string;
      participants: string[] | null;
      members: string[];
    }
  | { type: 'record-members'; round: number; joined: string[] }
  | { type: 'record-departure'; round: number; siteId: string }
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
  | { type: 'move-deadline'; round: number; deadlineAt: string }
  /** When it began and goes on, by the clock as it is now. */
  | { type: 'move-pause'; pause: RunPause }
  /** The update counts as announced again; the round is open again where there is a deadline. */
  | { type: 'ask-again'; round: number; siteId: string; updateSha256: string; deadlineAt: string | null }
  | { type: 'pause-run'; pause: RunPause }
  | { type: 'continue-run'; status: RunStatus }
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
export const isOpen = ({ status, round: current, current: state, pause }: RunState, round: number) =>
  pause === null && status === 'running' && current === round && state?.status === 'open';

/** What a decision is made from, and where it says its effects. */
export interface RunContext {
  rules: RunRules;
  around: Surroundings;
  emit(...effects: RunEffect[]): void;
}
