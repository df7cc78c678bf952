/**
 * A site's reducer over a store that is a few maps. What the maps keep and how each step asks them is as in
 * core/site/site-records.ts and site.ts; that these keep it so is the matter of test/unit/round-reducer.test.ts.
 */
import {
  type Effect,
  initialState,
  reduce,
  type SiteEvent,
  type Step,
} from '../../../core/site/round-reducer.ts';
import type { AnnounceBody, ManifestBody, ReceiptBody } from '../../../core/transport/messages.ts';
import { runId } from './coordinator-model.ts';

export type UpMessage =
  | { type: 'announce'; body: AnnounceBody }
  | { type: 'evaluation'; stateSha256: string }
  | { type: 'declined'; round: number };

interface Row {
  status: 'working' | 'announced' | 'received' | 'rejected';
  updateSha256: string | null;
  /** Version of the consents that the update was made under. */
  consents: number;
}

export interface SitePorts {
  canFetch(): boolean;
  /** Sent at once and never again. */
  progress(round: number): void;
}

const brokerAway = { code: 'BROKER_UNREACHABLE', message: 'No broker.', action: 'Wait.' } as const;

export class SiteModel {
  readonly siteId: string;
  private readonly ports: SitePorts;
  /** What a kill leaves. */
  private readonly rows = new Map<number, Row>();
  private outbox: { id: number; message: UpMessage }[] = [];
  private readonly evaluated = new Set<string>();
  private consents = 0;
  private paused = false;
  private newestRound = 0;
  private isRunOver = false;
  private newestManifest = -1;
  private nextId = 0;
  /** Rounds of which it has said that nobody need wait for it. It may deliver all the same. */
  readonly declined = new Set<number>();
  /** Gone with the process. */
  private state;
  private step: Extract<Effect, { type: Step }> | null = null;
  private examined: number | null = null;
  private trained: { round: number; sha256: string; consents: number } | null = null;
  private cohort: number | null = null;
  private retryDue = false;
  isUp = true;
  dieAfter: number | null = null;
  readonly violations: string[] = [];

  constructor(siteId: string, ports: SitePorts) {
    this.siteId = siteId;
    this.ports = ports;
    this.state = initialState(siteId, false);
    this.dispatch({ type: 'started' });
  }

  get pending(): readonly { id: number; message: UpMessage }[] {
    return this.outbox;
  }
  get isPaused() {
    return this.paused;
  }
  get consentVersion() {
    return this.consents;
  }
  rowOf(round: number): Row | undefined {
    return this.rows.get(round);
  }
  /** Whether the file that was announced can still be had here. */
  serves(round: number, sha256: string): boolean {
    return this.isUp && this.rows.get(round)?.updateSha256 === sha256;
  }

  die(): void {
    this.isUp = false;
    this.dieAfter = null;
  }

  start(): void {
    this.isUp = true;
    this.state = initialState(this.siteId, this.paused);
    [this.step, this.examined, this.trained, this.cohort, this.retryDue] = [null, null, null, null, false];
    this.dispatch({ type: 'started' });
  }

  private dispatch(first: SiteEvent): void {
    const events = [first];
    for (let taken = 0; events.length > 0 && this.isUp; taken++) {
      if (taken > 30) {
        this.violations.push(`${this.siteId} goes round in circles`);
        return;
      }
      const decision = reduce(this.state, events.shift()!);
      this.state = decision.state;
      for (const effect of decision.effects) {
        if (this.dieAfter !== null && this.dieAfter-- === 0) {
          this.die();
          return;
        }
        events.push(...this.execute(effect));
      }
    }
  }

  private enqueue(message: UpMessage): void {
    this.outbox.push({ id: this.nextId++, message });
  }

  private retract(round: number): void {
    this.outbox = this.outbox.filter(
      ({ message }) => message.type !== 'announce' || message.body.round !== round,
    );
  }

  private execute(effect: Effect): SiteEvent[] {
    switch (effect.type) {
      case 'recordRun': {
        const { round, phase } = effect.manifest;
        this.newestRound = Math.max(this.newestRound, round);
        this.isRunOver = phase === 'finished' || phase === 'stopped';
        return [];
      }
      case 'discardWithdrawn':
        return this.discard();
      case 'examine':
        this.examined = effect.ticket;
        return [];
      case 'decline':
        this.declined.add(effect.manifest.round);
        this.enqueue({ type: 'declined', round: effect.manifest.round });
        return [];
      case 'takeBackDisallowed':
      case 'takeBackAll':
      case 'takeBack':
        return [];
      case 'stop':
        [this.step, this.examined, this.retryDue] = [null, null, false];
        return [];
      case 'scheduleRetry':
        this.retryDue = true;
        return [];
      default:
        if (this.step !== null) this.violations.push(`${this.siteId}: two steps at once`);
        this.step = effect;
        return [];
    }
  }

  private discard(): SiteEvent[] {
    if (this.isRunOver) return [];
    let isDiscarded = false;
    for (const [round, row] of this.rows)
      if (row.status === 'announced' && row.consents < this.consents) {
        this.retract(round);
        this.rows.set(round, { status: 'working', updateSha256: null, consents: this.consents });
        isDiscarded = true;
      }
    const isBusy = this.state.phase === 'training' || this.state.phase === 'announcing';
    if (isBusy && this.cohort !== null && this.cohort < this.consents) isDiscarded = true;
    return isDiscarded ? [{ type: 'discarded' }] : [];
  }

  /** The work goes on by one step. */
  work(): void {
    if (!this.isUp) return;
    const { step, examined, retryDue } = this;
    if (examined !== null) {
      this.examined = null;
      this.dispatch({ type: 'approved', ticket: examined });
    } else if (step !== null) {
      this.step = null;
      this.dispatch(this.take(step));
    } else if (retryDue) {
      this.retryDue = false;
      this.dispatch({ type: 'retryDue' });
    }
  }

  private take({ type, manifest, ticket }: Extract<Effect, { type: Step }>): SiteEvent {
    const { round } = manifest;
    const row = this.rows.get(round);
    switch (type) {
      case 'fetch':
        return this.ports.canFetch()
          ? { type: 'fetched', ticket }
          : { type: 'failed', ticket, effect: 'fetch', error: brokerAway };
      case 'evaluate': {
        const { sha256 } = manifest.state!;
        if (!this.evaluated.has(sha256)) {
          this.evaluated.add(sha256);
          this.enqueue({ type: 'evaluation', stateSha256: sha256 });
        }
        return { type: 'evaluated', ticket };
      }
      case 'train': {
        const status = row?.status ?? 'working';
        if (status !== 'working') return { type: status === 'announced' ? 'announced' : 'settled', ticket };
        this.cohort = this.consents;
        this.rows.set(round, { status: 'working', updateSha256: null, consents: this.consents });
        this.ports.progress(round);
        const sha256 = `${this.siteId} ${round} ${this.consents}`;
        this.trained = { round, sha256, consents: this.consents };
        return { type: 'trained', ticket };
      }
      case 'announce': {
        const { sha256, consents } = this.trained!;
        if (consents < this.consents) return { type: 'discarded' };
        if (row?.status === 'received')
          this.violations.push(`${this.siteId} announced round ${round} after it was received`);
        this.rows.set(round, { status: 'announced', updateSha256: sha256, consents });
        this.retract(round);
        const update = { sha256, sizeBytes: 1, chunkBytes: 1024 };
        this.enqueue({
          type: 'announce',
          body: { runId, round, update, examples: 1, meanLoss: 1, steps: 1 },
        });
        return { type: 'announced', ticket };
      }
    }
  }

  receiveManifest(manifest: ManifestBody, number: number): void {
    // Time never goes back.
    if (!this.isUp || number < this.newestManifest) return;
    this.newestManifest = number;
    this.dispatch({ type: 'manifestReceived', manifest });
  }

  receiveReceipt({ round, updateSha256, accepted, reason, kind }: ReceiptBody): void {
    if (!this.isUp) return;
    const isSettling =
      accepted || kind === 'final' || (kind === undefined && (this.isRunOver || this.newestRound > round));
    if (!isSettling) return;
    const row = this.rows.get(round);
    if (row?.status === 'announced' && row.updateSha256 === updateSha256) {
      this.rows.set(round, { ...row, status: accepted ? 'received' : 'rejected' });
      this.dispatch({ type: 'receipt', accepted, reason });
    }
    this.outbox = this.outbox.filter(
      ({ message }) => message.type !== 'announce' || message.body.update.sha256 !== updateSha256,
    );
  }

  acknowledge(id: number): void {
    this.outbox = this.outbox.filter((one) => one.id !== id);
  }

  withdraw(): void {
    if (!this.isUp) return;
    this.consents += 1;
    this.dispatch({ type: 'consentChanged' });
  }

  pause(paused: boolean): void {
    if (!this.isUp) return;
    this.paused = paused;
    this.dispatch({ type: paused ? 'paused' : 'resumed' });
  }
}
