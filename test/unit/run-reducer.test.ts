/**
 * Random courses of a run: the real reducer and the real store, which is read back after every crash. Only the network,
 * the judging of files and the merging of updates are played by the test.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import {
  isOpen,
  isOver,
  type RunEffect,
  type RunEvent,
  type RunRules,
  type RunState,
} from '../../core/coordinator/run-events.ts';
import {
  loadRunState,
  type RunRecords,
  recordAccuracy,
  writeRun,
} from '../../core/coordinator/run-records.ts';
import { reduceRun } from '../../core/coordinator/run-reducer.ts';
import { sha256 } from '../../core/shared/hash.ts';
import type { RoundRecord } from '../../core/store/records.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import type { AnnounceBody } from '../../core/transport/messages.ts';
import { openTestStore, type TestStore } from '../fixtures/store.ts';

const sites = ['a', 'b', 'c', 'd'];
const minuteMs = 60_000;
const startMs = Date.parse('2026-11-22T12:00:00.000Z');
const facts = { stage: 'baseline', rank: 4, trainableParameters: 1 } as const;
let opened: TestStore;
let runs = 0;

beforeAll(() => {
  opened = openTestStore('2026-11-22T12:00:00.000Z', { durability: 'process' });
});
afterAll(() => opened[Symbol.dispose]());

interface Settings {
  quorum: number;
  participation: number;
  rounds: number;
}

/** Good updates, two that differ; one that is rejected when judged; one that is refused before. */
type Kind = 'good' | 'other' | 'bad' | 'large';

type Command =
  | { do: 'announce'; site: string; round: number; kind: Kind }
  | { do: 'evaluate' | 'leave' | 'return' | 'progress' | 'spoil' | 'damage'; site: string }
  | { do: 'pause' | 'trouble' | 'continue' }
  | { do: 'decline'; site: string; round: number }
  | { do: 'transfer'; index: number }
  | { do: 'wait'; ms: number }
  /** Somebody sets the clock of the machine, while the process runs or before it starts again. */
  | { do: 'jump' | 'restart'; ms: number };

class Course {
  readonly records: RunRecords;
  readonly rules: RunRules;
  state: RunState;
  /** Time that goes by for everybody. */
  now = startMs;
  /** By how much the clock of the machine is wrong. */
  wrongByMs = 0;
  /** When a site went away; absent while it is online. */
  readonly away = new Map<string, number>(sites.map((site) => [site, startMs - 60 * minuteMs]));
  transfers: { siteId: string; body: AnnounceBody }[] = [];
  readonly accepted = new Map<string, number>();
  /** Sites whose next update passes every check and stops the merge of all. */
  readonly spoilt = new Set<string>();
  /** Sites whose newest update lies on a bad part of the disk; it is noticed when it is read. */
  readonly onBadDisk = new Set<string>();
  /** Whom the store says the round waits for, as it was last seen. */
  members = new Set<string>();
  readonly closedRounds: number[] = [];
  readonly seen = new Map<number, RoundRecord>();
  published: unknown;
  /** Effects until this process dies; endless when null. */
  left: number | null = null;

  constructor(settings: Settings) {
    const start = { baseId: 'base', baseSha256: sha256('base'), classes: ['x', 'y'] };
    const config = defaultRunConfig({ ...start, ...settings, roundDeadlineMs: 10 * minuteMs });
    const runId = `run-${runs++}`;
    const { store } = opened;
    store.runs.insert({ id: runId, config });
    store.adapters.insert({
      ...{ sha256: sha256(runId), runId, round: -1, kind: 'global', rank: 4, parameters: 1, sizeBytes: 1 },
    });
    this.records = { runId, store, config, strategy: getStrategy(config.strategy) };
    this.rules = { ...config, runId, offlineGraceMs: minuteMs };
    this.state = loadRunState(this.records);
    this.happen({ type: 'resumed' });
  }

  get clock(): Date {
    return new Date(this.now + this.wrongByMs);
  }

  get online(): string[] {
    return sites.filter((site) => !this.away.has(site));
  }

  body(siteId: string, round: number, kind: Kind): AnnounceBody {
    const update = { sha256: sha256(`${siteId} ${round} ${kind}`), sizeBytes: 1, chunkBytes: 1024 };
    return { runId: this.records.runId, round, update, examples: 1, meanLoss: 1, steps: 1 };
  }

  happen(first: RunEvent): void {
    const events = [first];
    for (let event = events.shift(); event !== undefined; event = events.shift()) {
      const before = this.state;
      const around = {
        now: this.clock,
        online: this.online,
        offlineForMs: (site: string) => (this.away.has(site) ? this.now - this.away.get(site)! : 0),
      };
      const step = reduceRun(this.rules, before, event, around);
      if (isOver(before) && event.type !== 'continued') expect(step.state.status).toBe(before.status);
      this.state = step.state;
      for (const effect of step.effects) {
        if (this.left !== null && this.left-- === 0) {
          this.restart();
          return;
        }
        const answer = this.carryOut(effect);
        this.look();
        this.lookAtMembers(effect);
        if (answer !== undefined) events.push(answer);
      }
    }
    this.left = null;
    this.compareWithStore();
    expect(this.published).toEqual(this.manifest());
  }

  /** What the sites have to know. */
  manifest(): unknown {
    const { store, runId } = this.records;
    const { status, round } = store.runs.get(runId)!;
    return [status, round, store.rounds.get(runId, round)?.participants, store.runs.get(runId)!.pause];
  }

  /** The process dies: what was in memory is gone. */
  restart(jumpMs = 0): void {
    this.wrongByMs += jumpMs;
    this.left = null;
    this.transfers = [];
    this.state = loadRunState(this.records);
    this.lookAtMembers(null);
    this.happen({ type: 'resumed' });
  }

  carryOut(effect: RunEffect): RunEvent | undefined {
    const { store, runId } = this.records;
    const stored = store.runs.get(runId)!;
    const rows = (round: number) => store.roundSites.list(runId, round);
    switch (effect.type) {
      case 'fetch':
        this.transfers.push(effect);
        return undefined;
      case 'judge': {
        const damaged = this.damagedBy(effect.siteId, effect.body.round);
        if (damaged !== null) return damaged;
        const isBad =
          effect.body.update.sha256 === this.body(effect.siteId, effect.body.round, 'bad').update.sha256;
        return { ...effect, type: 'judged', verdict: isBad ? 'bad' : 1 };
      }
      case 'answer': {
        const { round, updateSha256, accepted } = effect.receipt;
        // Nobody is told what the store does not know.
        const row = store.roundSites.get(runId, round, effect.siteId);
        if (accepted) expect(row).toMatchObject({ status: 'received', updateSha256 });
        return undefined;
      }
      case 'aggregate':
        return this.aggregate(effect.round);
      case 'record-accuracy':
        recordAccuracy(this.records, effect.stateSha256);
        return undefined;
      // One that is stopped may have arrived all the same.
      case 'stop-transfers':
      case 'tidy-up':
        return undefined;
      case 'publish':
        this.published = this.manifest();
        return undefined;
      case 'accept-update': {
        const { siteId, body } = effect;
        const record = store.rounds.get(runId, body.round)!;
        expect([stored.status, stored.round, record.status]).toEqual(['running', body.round, 'open']);
        expect(record.participants ?? sites).toContain(siteId);
        expect(rows(body.round).find((row) => row.siteId === siteId)?.updateSha256).toBe(body.update.sha256);
        const key = `${siteId} ${body.round}`;
        this.accepted.set(key, (this.accepted.get(key) ?? 0) + 1);
        expect(this.accepted.get(key)).toBe(1);
        break;
      }
      case 'drop-update':
        expect(store.rounds.get(runId, effect.round)!.status).toBe('aggregating');
        this.accepted.delete(`${effect.siteId} ${effect.round}`);
        break;
      case 'ask-again':
        this.accepted.delete(`${effect.siteId} ${effect.round}`);
        break;
      case 'pause-run':
        expect(isOver({ status: stored.status })).toBe(false);
        break;
      case 'reopen-round':
        expect(rows(effect.round).filter(({ status }) => status === 'received').length).toBeLessThan(
          this.rules.quorum,
        );
        break;
      case 'freeze-round':
        expect(
          rows(effect.round).filter(({ status }) => status === 'received').length,
        ).toBeGreaterThanOrEqual(this.rules.quorum);
        break;
      case 'open-round':
        expect(stored.pause).toBeNull();
        // Nobody who was awaited a moment ago is forgotten because the process has just started.
        for (const id of this.members)
          if (this.now - (this.away.get(id) ?? this.now) < this.rules.offlineGraceMs)
            expect(effect.members).toContain(id);
        expect(store.rounds.get(runId, effect.round)).toBeNull();
        expect(this.closedRounds).toHaveLength(effect.round);
        if (stored.status === 'waiting') expect(this.online.length).toBeGreaterThanOrEqual(this.rules.quorum);
        break;
    }
    writeRun(this.records, effect, facts);
    return undefined;
  }

  /** As close-round.ts: the result and what follows from it in one transaction. */
  aggregate(round: number): RunEvent {
    const { store, runId } = this.records;
    const received = store.roundSites.list(runId, round).filter(({ status }) => status === 'received');
    const record = store.rounds.get(runId, round)!;
    expect(record.status).toBe('aggregating');
    expect(record.parametersUp).toBeGreaterThanOrEqual(received.length);
    expect(received.length).toBeGreaterThanOrEqual(this.rules.quorum);
    expect(this.closedRounds).toHaveLength(round);
    for (const { siteId } of received) {
      const damaged = this.damagedBy(siteId, round);
      if (damaged !== null) return damaged;
    }
    const bad = received.find(({ siteId }) => this.spoilt.delete(siteId));
    if (bad !== undefined) return { type: 'unmergeable', round, siteId: bad.siteId, reason: 'unmergeable' };
    const resultSha256 = sha256(`${record.startSha256} ${received.map((row) => row.updateSha256).join()}`);
    const isLast = round + 1 === this.rules.rounds;
    store.transaction(() => {
      store.rounds.update(runId, round, {
        ...{ status: 'closed', resultSha256, closedAt: this.clock.toISOString() },
      });
      store.runs.update(runId, isLast ? { status: 'evaluating' } : { round: round + 1 });
    });
    this.closedRounds.push(round);
    return { type: 'aggregated', round, resultSha256, reported: [] };
  }

  damagedBy(siteId: string, round: number): RunEvent | null {
    const { store, runId } = this.records;
    const updateSha256 = store.roundSites.get(runId, round, siteId)?.updateSha256 ?? null;
    if (updateSha256 === null || !this.onBadDisk.delete(siteId)) return null;
    return { type: 'damaged', round, siteId, updateSha256 };
  }

  /** What the coordinator fetches by itself when it looks again, as `askAgain` of the engine does. */
  fetchAnnounced(): void {
    const { store, runId } = this.records;
    const { round, current } = this.state;
    if (!isOpen(this.state, round)) return;
    for (const [siteId, { status }] of current!.sites) {
      const sha = store.roundSites.get(runId, round, siteId)?.updateSha256 ?? null;
      const kind = (['good', 'other', 'bad'] as const).find(
        (each) => this.body(siteId, round, each).update.sha256 === sha,
      );
      if (status === 'announced' && kind !== undefined)
        this.transfers.push({ siteId, body: this.body(siteId, round, kind) });
    }
  }

  /** Who is waited for changes by what is recorded, and by nothing else; a round begins with a list of its own. */
  lookAtMembers(effect: RunEffect | null): void {
    const { store, runId } = this.records;
    const { round } = store.runs.get(runId)!;
    const isOpened = store.rounds.get(runId, round) !== null;
    const members = new Set(store.roundMembers.of(runId, isOpened ? round : round - 1));
    const joins = ['open-round', 'record-members', 'add-participants', 'record-arrival', 'refuse-update'];
    const mayJoin = effect !== null && [...joins, 'record-progress', 'ask-again'].includes(effect.type);
    const mayLeave = effect?.type === 'open-round' || effect?.type === 'record-departure';
    if (!mayJoin) expect([...members].filter((id) => !this.members.has(id))).toEqual([]);
    if (!mayLeave) expect([...this.members].filter((id) => !members.has(id))).toEqual([]);
    this.members = members;
  }

  /** Rounds only go forward, one after the other, each from where the one before ended. */
  look(): void {
    const { store, runId } = this.records;
    // A round without a quorum of updates that can be merged is open again.
    const order: Record<RoundRecord['status'], number> = { open: 0, aggregating: 0, closed: 1 };
    const records = store.rounds.listOfRun(runId);
    for (const [index, record] of records.entries()) {
      expect(record.round).toBe(index);
      const before = this.seen.get(index);
      if (before !== undefined) {
        expect(order[record.status]).toBeGreaterThanOrEqual(order[before.status]);
        if (before.status === 'closed') expect(record.resultSha256).toBe(before.resultSha256);
      }
      if (index > 0) expect(record.startSha256).toBe(records[index - 1]!.resultSha256);
      this.seen.set(index, record);
    }
  }

  /** What memory says is what a restart would read. */
  compareWithStore(): void {
    const rows = ({ current }: RunState) =>
      [...(current?.sites ?? [])]
        .map(([site, { status, updateSha256, reason }]) => [site, status, updateSha256, reason].join(' '))
        .sort();
    const stored = loadRunState(this.records);
    expect(rows(this.state)).toEqual(rows(stored));
    const round = ({ current }: RunState) =>
      current && [current.status, current.deadlineAt, current.closedAt, current.participants];
    expect(round(this.state)).toEqual(round(stored));
    expect({ ...this.state, current: null }).toEqual({ ...stored, current: null });
  }

  take(command: Command): void {
    if (command.do === 'jump') this.jump(command.ms);
    else if (command.do === 'restart') this.restart(command.ms);
    else {
      const event = this.eventOf(command);
      if (event !== null) this.happen(event);
    }
  }

  /** What is due is due after as long as before. */
  jump(byMs: number): void {
    const due = ({ round, status, current, pause }: RunState) => [
      ...[round, status, current?.status, pause?.kind],
      ...[current?.status === 'aggregating' ? null : current?.deadlineAt, pause?.retryAt].map((at) =>
        at == null ? null : Date.parse(at) - this.clock.getTime(),
      ),
    ];
    const [before, dies] = [due(this.state), this.left !== null];
    this.wrongByMs += byMs;
    this.happen({ type: 'clock-set', byMs });
    if (!dies && !isOver(this.state)) expect(due(this.state)).toEqual(before);
  }

  eventOf(command: Command): RunEvent | null {
    const { store, runId } = this.records;
    switch (command.do) {
      case 'announce': {
        const { site: siteId, kind } = command;
        const round = Math.max(0, this.state.round + command.round);
        const row = store.roundSites.get(runId, round, siteId);
        const body = this.body(siteId, round, kind);
        return { type: 'announced', siteId, body, row, refusal: kind === 'large' ? 'refused' : null };
      }
      case 'progress': {
        const body = { runId, round: this.state.round, step: 1, steps: 2, loss: 1 };
        return { type: 'progressed', siteId: command.site, body };
      }
      case 'decline': {
        const round = Math.max(0, this.state.round + command.round);
        return { type: 'declined', siteId: command.site, body: { runId, round, reason: 'paused' } };
      }
      case 'evaluate': {
        const stateSha256 = this.state.newest;
        const reported = store.evaluations.ofState(runId, stateSha256).map(({ siteId }) => siteId);
        const body = { runId, stateSha256, correct: 1, total: 2 };
        return { type: 'evaluated', siteId: command.site, body, reported };
      }
      case 'transfer': {
        const [transfer] = this.transfers.splice(command.index % Math.max(1, this.transfers.length), 1);
        return transfer === undefined ? null : { ...transfer, type: 'transferred' };
      }
      case 'pause':
      case 'trouble': {
        if (this.state.pause !== null && command.do === 'trouble') return null;
        const since = this.clock.toISOString();
        const retryAt = new Date(this.clock.getTime() + 2 * minuteMs).toISOString();
        const failure = { code: 'INTERNAL', message: 'x', action: 'y' } as const;
        const trouble = { kind: 'retry', failure, since, retryAt } as const;
        const asked = { kind: 'asked', failure: null, since, retryAt: null } as const;
        return { type: 'paused', pause: command.do === 'pause' ? asked : trouble };
      }
      case 'continue':
        return { type: 'continued' };
      case 'damage':
        this.onBadDisk.add(command.site);
        return null;
      case 'spoil':
        this.spoilt.add(command.site);
        return null;
      case 'leave':
        if (!this.away.has(command.site)) this.away.set(command.site, this.now);
        return { type: 'sites-changed' };
      case 'return':
        this.away.delete(command.site);
        return { type: 'sites-changed' };
      case 'wait':
        this.now += command.ms;
        this.fetchAnnounced();
        return { type: 'looked' };
      case 'jump':
      case 'restart':
        return null;
    }
  }
}

const site = fc.constantFrom(...sites);
const offset = fc.constantFrom(0, 0, 0, 0, -1, 1);
const kind = fc.constantFrom<Kind>('good', 'good', 'other', 'other', 'bad', 'large');
const clockJump = fc
  .constantFrom(0, 0, 60, -60, 2 * 24 * 60, -2 * 24 * 60)
  .map((minutes) => minutes * minuteMs);
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('announce'), site, round: offset, kind }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('transfer'), index: fc.nat(5) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('evaluate', 'progress', 'return', 'return', 'leave', 'spoil', 'damage'),
      site,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('pause', 'trouble', 'continue', 'continue') }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('decline'), site, round: offset }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('wait'),
      ms: fc.constantFrom(1000, minuteMs, 5 * minuteMs, 11 * minuteMs),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('restart', 'jump'), ms: clockJump }) },
) as fc.Arbitrary<Command>;

const course = fc.record({
  settings: fc.record({
    quorum: fc.integer({ min: 1, max: 3 }),
    participation: fc.constantFrom(1, 0.4),
    rounds: fc.integer({ min: 1, max: 3 }),
  }),
  /** Each with after how many of its effects the process dies. */
  commands: fc.array(fc.tuple(command, fc.option(fc.nat(5), { freq: 6 })), { minLength: 20, maxLength: 70 }),
  /** The sites that work to the end; the others are gone for good, or connected and silent. */
  live: fc.subarray(sites, { minLength: 3 }),
  others: fc.constantFrom('leave' as const, 'return' as const),
});

type Given = typeof course extends fc.Arbitrary<infer Drawn> ? Drawn : never;

function play({ settings, commands }: Pick<Given, 'settings' | 'commands'>): Course {
  const run = new Course(settings);
  for (const [next, dieAfter] of commands) {
    run.left = dieAfter;
    run.take(next);
    run.left = null;
  }
  return run;
}

test('whatever happens in whatever order, no round and no update is lost, counted twice or taken late, and the run ends', () => {
  let ended = 0;
  fc.assert(
    fc.property(course, (given) => {
      const run = play(given);
      for (const name of sites)
        run.take({ do: given.live.includes(name) ? 'return' : given.others, site: name });
      run.take({ do: 'continue' });
      expect(run.state.pause).toBeNull();

      // Two minutes each: every round may have to wait for its deadline, and a few times for that of substitutes.
      for (let turn = 0; turn < 30 * given.settings.rounds && !isOver(run.state); turn++) {
        for (const name of given.live) {
          run.take({ do: 'announce', site: name, round: 0, kind: turn % 2 === 0 ? 'good' : 'other' });
          run.take({ do: 'evaluate', site: name });
        }
        while (run.transfers.length > 0) run.take({ do: 'transfer', index: 0 });
        run.take({ do: 'wait', ms: 2 * minuteMs });
      }

      expect(run.state.status).toBe('finished');
      expect(run.closedRounds).toEqual(Array.from({ length: given.settings.rounds }, (_, round) => round));
      ended++;
    }),
    { numRuns: 80 },
  );
  expect(ended).toBeGreaterThanOrEqual(80);
}, 240_000);

test('a stopped or failed run stays so, whatever comes after', () => {
  fc.assert(
    fc.property(course, fc.boolean(), fc.nat(19), (given, stops, at) => {
      const run = play({ ...given, commands: given.commands.slice(0, at) });
      if (isOver(run.state)) return;
      const failure = { code: 'INTERNAL', message: 'x', action: 'y' } as const;
      run.happen(stops ? { type: 'stopped' } : { type: 'failed', failure });
      const closed = run.closedRounds.length;

      // A failed run can be taken up again by a person, which the next test does.
      for (const [next] of given.commands.slice(at)) if (next.do !== 'continue') run.take(next);
      run.happen(stops ? { type: 'failed', failure } : { type: 'stopped' });

      expect(run.state.status).toBe(stops ? 'stopped' : 'failed');
      expect(run.closedRounds).toHaveLength(closed);
      expect(opened.store.runs.get(run.records.runId)!.status).toBe(run.state.status);
    }),
    { numRuns: 40 },
  );
}, 120_000);

test('a failed run goes on where it was when a person says so, and ends', () => {
  fc.assert(
    fc.property(course, fc.nat(40), (given, at) => {
      const run = play({ ...given, commands: given.commands.slice(0, at) });
      if (isOver(run.state)) return;
      const closed = run.closedRounds.length;
      run.happen({ type: 'failed', failure: { code: 'INTERNAL', message: 'x', action: 'y' } });

      run.take({ do: 'continue' });
      expect(isOver(run.state)).toBe(false);
      expect(run.closedRounds.slice(0, closed)).toHaveLength(closed);
      for (const name of sites) run.take({ do: 'return', site: name });
      for (let turn = 0; turn < 30 * given.settings.rounds && !isOver(run.state); turn++) {
        for (const name of sites) {
          run.take({ do: 'announce', site: name, round: 0, kind: turn % 2 === 0 ? 'good' : 'other' });
          run.take({ do: 'evaluate', site: name });
        }
        while (run.transfers.length > 0) run.take({ do: 'transfer', index: 0 });
        run.take({ do: 'wait', ms: 2 * minuteMs });
      }
      expect(run.state.status).toBe('finished');
    }),
    { numRuns: 25 },
  );
}, 120_000);
