/**
 * The coordinator's reducer of a run over a store that is a few maps, so that millions of orders can be tried. What the maps
 * keep is what core/coordinator/run-records.ts keeps; that memory and the real store agree is the matter of
 * test/unit/run-reducer.test.ts.
 */
import {
  isOpen,
  isOver,
  type RunEffect,
  type RunEvent,
  type RunRules,
  type RunState,
  type RunWrite,
  type SiteRow,
} from '../../../core/coordinator/run-events.ts';
import { reduceRun } from '../../../core/coordinator/run-reducer.ts';
import type { AnnounceBody, ReceiptBody } from '../../../core/transport/messages.ts';

interface DurableRound {
  status: 'open' | 'aggregating' | 'closed';
  startSha256: string;
  resultSha256: string | null;
  deadlineAt: string | null;
  closedAt: string | null;
  participants: string[] | null;
  sites: Map<string, SiteRow>;
  members: Set<string>;
  /** Accepted, and not dropped since. */
  counted: Map<string, string>;
}

export interface Attendance {
  online(): string[];
  offlineForMs(siteId: string): number;
}

export interface CoordinatorPorts extends Attendance {
  now(): number;
  answer(siteId: string, receipt: ReceiptBody): void;
  /** What the retained manifest says from now on. */
  publish(manifest: PublishedManifest): void;
  /** Called before a round freezes, while everything is as it was. */
  beforeFreeze(round: number): void;
}

export interface PublishedManifest {
  phase: 'waiting' | 'train' | 'evaluate' | 'finished' | 'stopped';
  round: number;
  stateSha256: string;
  participants: string[] | null;
}

export const runId = 'run';
const firstState = 'state -1';

export class CoordinatorModel {
  readonly rules: RunRules;
  readonly ports: CoordinatorPorts;
  /** What a kill leaves. */
  private durable = {
    status: 'waiting' as RunState['status'],
    round: 0,
    pause: null as RunState['pause'],
    rounds: new Map<number, DurableRound>(),
    evaluations: new Map<string, Set<string>>(),
  };
  private state: RunState;
  /** Updates that are being fetched; gone with the process. */
  transfers: { siteId: string; body: AnnounceBody }[] = [];
  /** Effects until the process dies; null: it lives. */
  dieAfter: number | null = null;
  isUp = true;
  readonly violations: string[] = [];

  constructor(rules: RunRules, ports: CoordinatorPorts) {
    this.rules = rules;
    this.ports = ports;
    this.state = this.load();
    this.happen({ type: 'resumed' });
  }

  get status() {
    return this.durable.status;
  }
  get round() {
    return this.durable.round;
  }
  get isPaused() {
    return this.state.pause !== null;
  }
  roundOf(round: number): DurableRound | undefined {
    return this.durable.rounds.get(round);
  }

  /** As `loadRunState`. */
  private load(): RunState {
    const { status, round, pause, rounds, evaluations } = this.durable;
    const record = rounds.get(round);
    const newest =
      [...rounds.values()].findLast((one) => one.resultSha256 !== null)?.resultSha256 ?? firstState;
    return {
      ...{ status, round, pause, newest },
      current: record === undefined ? null : { ...record, sites: new Map(record.sites) },
      reported: new Set(evaluations.get(newest)),
      expected: new Set(rounds.get(record === undefined ? round - 1 : round)?.members),
    };
  }

  die(): void {
    this.isUp = false;
    this.transfers = [];
    this.dieAfter = null;
  }

  start(): void {
    this.isUp = true;
    this.state = this.load();
    this.happen({ type: 'resumed' });
  }

  happen(first: RunEvent): void {
    const events = [first];
    for (let event = events.shift(); event !== undefined; event = events.shift()) {
      const before = this.state;
      const around = {
        now: new Date(this.ports.now()),
        online: this.ports.online(),
        offlineForMs: (siteId: string) => this.ports.offlineForMs(siteId),
      };
      const { state, effects } = reduceRun(this.rules, before, event, around);
      if (isOver(before) && before.status !== 'failed' && state.status !== before.status)
        this.violations.push(`a run that was ${before.status} became ${state.status}`);
      this.state = state;
      for (const effect of effects) {
        if (this.dieAfter !== null && this.dieAfter-- === 0) {
          this.die();
          return;
        }
        const answer = this.carryOut(effect);
        if (answer !== undefined) events.push(answer);
      }
    }
  }

  announced(siteId: string, body: AnnounceBody): void {
    const row = this.durable.rounds.get(body.round)?.sites.get(siteId) ?? null;
    this.happen({ type: 'announced', siteId, body, row, refusal: null });
  }

  /** @returns whether it may be acknowledged */
  evaluated(siteId: string, stateSha256: string): boolean {
    if (this.isPaused) return false;
    const reported = [...(this.durable.evaluations.get(stateSha256) ?? [])];
    this.happen({ type: 'evaluated', siteId, body: { runId, stateSha256, correct: 1, total: 2 }, reported });
    return this.isUp;
  }

  /** @returns whether it may be acknowledged */
  declined(siteId: string, round: number): boolean {
    if (this.isPaused) return false;
    this.happen({ type: 'declined', siteId, body: { runId, round, reason: 'paused' } });
    return this.isUp;
  }

  progressed(siteId: string, round: number): void {
    if (isOpen(this.state, round))
      this.happen({ type: 'progressed', siteId, body: { runId, round, step: 1, steps: 2, loss: 1 } });
  }

  private carryOut(effect: RunEffect): RunEvent | undefined {
    switch (effect.type) {
      case 'fetch':
        this.transfers.push({ siteId: effect.siteId, body: effect.body });
        return undefined;
      case 'judge':
        return { ...effect, type: 'judged', verdict: 1 };
      case 'answer':
        this.ports.answer(effect.siteId, effect.receipt);
        return undefined;
      case 'aggregate':
        return this.aggregate(effect.round);
      case 'publish':
        this.ports.publish(this.manifest());
        return undefined;
      case 'stop-transfers':
        this.transfers = this.transfers.filter(
          ({ siteId }) => effect.siteId !== null && siteId !== effect.siteId,
        );
        return undefined;
      case 'record-accuracy':
      case 'tidy-up':
        return undefined;
    }
    this.write(effect);
    return undefined;
  }

  private manifest(): PublishedManifest {
    const { status, round, rounds } = this.durable;
    const record = rounds.get(round);
    const phase = status === 'running' ? 'train' : status === 'evaluating' ? 'evaluate' : status;
    const stateSha256 =
      record === undefined ? this.load().newest : (record.resultSha256 ?? record.startSha256);
    return {
      ...{ round, stateSha256, participants: record?.participants ?? null },
      phase: phase === 'failed' ? 'stopped' : phase,
    };
  }

  /** As close-round.ts: all of it or nothing. */
  private aggregate(round: number): RunEvent {
    const record = this.durable.rounds.get(round)!;
    const received = [...record.sites].filter(([, { status }]) => status === 'received');
    if (record.status !== 'aggregating')
      this.violations.push(`round ${round} was merged while it was ${record.status}`);
    if (received.length < this.rules.quorum) this.violations.push(`round ${round} closed below the quorum`);
    for (const [siteId, { updateSha256 }] of received)
      if (record.counted.get(siteId) !== updateSha256)
        this.violations.push(`round ${round} counts what ${siteId} did not send`);
    const members = received.map(([siteId, { updateSha256 }]) => `${siteId}:${updateSha256}`).sort();
    const resultSha256 = `state ${round} <${record.startSha256}> ${members.join()}`;
    Object.assign(record, {
      status: 'closed',
      resultSha256,
      closedAt: new Date(this.ports.now()).toISOString(),
    });
    if (round + 1 === this.rules.rounds) this.durable.status = 'evaluating';
    else this.durable.round = round + 1;
    return { type: 'aggregated', round, resultSha256, reported: [] };
  }

  private upsert(round: number, siteId: string, change: Partial<SiteRow>): void {
    const { sites } = this.durable.rounds.get(round)!;
    sites.set(siteId, {
      ...(sites.get(siteId) ?? { status: 'working', updateSha256: null, reason: null }),
      ...change,
    });
  }

  /** As `writeRun`: one transaction for each write. */
  private write(write: Exclude<RunWrite, { type: 'record-accuracy' }>): void {
    const { durable } = this;
    const recordOf = (round: number) => durable.rounds.get(round)!;
    switch (write.type) {
      case 'open-round': {
        const { round, startSha256, deadlineAt, participants, members } = write;
        if (durable.rounds.has(round)) this.violations.push(`round ${round} opened twice`);
        durable.rounds.set(round, {
          ...{ status: 'open', startSha256, deadlineAt, participants, resultSha256: null, closedAt: null },
          ...{ sites: new Map(), members: new Set(members), counted: new Map() },
        });
        Object.assign(durable, { status: 'running', round });
        return;
      }
      case 'record-members':
        for (const siteId of write.joined) recordOf(write.round).members.add(siteId);
        return;
      case 'record-departure':
        recordOf(write.round).members.delete(write.siteId);
        return;
      case 'add-participants': {
        const { round, participants, deadlineAt, added } = write;
        Object.assign(recordOf(round), { participants, deadlineAt });
        for (const siteId of added) recordOf(round).members.add(siteId);
        return;
      }
      case 'record-arrival': {
        const { siteId, body } = write;
        recordOf(body.round).members.add(siteId);
        this.upsert(body.round, siteId, {
          status: 'announced',
          updateSha256: body.update.sha256,
          reason: null,
        });
        return;
      }
      case 'accept-update': {
        const { siteId, body } = write;
        const { counted, status } = recordOf(body.round);
        if (counted.has(siteId)) this.violations.push(`round ${body.round}: ${siteId} counts twice`);
        if (status !== 'open')
          this.violations.push(`round ${body.round}: an update was taken while it was ${status}`);
        counted.set(siteId, body.update.sha256);
        this.upsert(body.round, siteId, { status: 'received' });
        return;
      }
      case 'refuse-update':
      case 'reject-update': {
        const { siteId, body, reason } = write;
        recordOf(body.round).members.add(siteId);
        this.upsert(body.round, siteId, {
          status: 'rejected',
          reason,
          updateSha256: body.update.sha256,
        });
        return;
      }
      case 'drop-update':
        recordOf(write.round).counted.delete(write.siteId);
        this.upsert(write.round, write.siteId, { status: 'rejected', reason: write.reason });
        return;
      case 'reopen-round':
        Object.assign(recordOf(write.round), { status: 'open', deadlineAt: write.deadlineAt });
        return;
      case 'move-deadline':
        Object.assign(recordOf(write.round), { deadlineAt: write.deadlineAt });
        return;
      case 'ask-again': {
        const { round, siteId, deadlineAt } = write;
        recordOf(round).counted.delete(siteId);
        recordOf(round).members.add(siteId);
        if (deadlineAt !== null) Object.assign(recordOf(round), { status: 'open', deadlineAt });
        this.upsert(round, siteId, { status: 'announced', reason: null });
        return;
      }
      case 'pause-run':
      case 'move-pause':
        durable.pause = write.pause;
        return;
      case 'continue-run':
        Object.assign(durable, { status: write.status, pause: null });
        return;
      case 'record-progress':
        recordOf(write.body.round).members.add(write.siteId);
        this.upsert(write.body.round, write.siteId, { status: 'working', reason: null });
        return;
      case 'record-absence':
        this.upsert(write.body.round, write.siteId, { status: 'absent', reason: write.body.reason });
        return;
      case 'record-evaluation': {
        const { stateSha256 } = write.body;
        durable.evaluations.set(
          stateSha256,
          (durable.evaluations.get(stateSha256) ?? new Set()).add(write.siteId),
        );
        return;
      }
      case 'freeze-round':
        this.ports.beforeFreeze(write.round);
        recordOf(write.round).status = 'aggregating';
        for (const siteId of write.absent) this.upsert(write.round, siteId, { status: 'absent' });
        return;
      case 'end-run':
        Object.assign(durable, { status: write.status, pause: null });
        return;
    }
  }
}
