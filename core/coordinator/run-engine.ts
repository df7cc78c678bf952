/**
 * Carries a run: brings what happens to the reducer in order and its effects to the store, the sites and the aggregation.
 * Everything that matters is in SQLite before it is acted upon, so that a killed coordinator goes on with the round it
 * was in: `resume()` derives the manifest, the missing transfers and an interrupted aggregation from the store alone.
 */
import type { z } from 'zod';
import type { BaseModel } from '../models/base-model.ts';
import type { AskedBy } from '../policy/contract.ts';
import { AppError, isOffline } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { createSerialQueue } from '../shared/serial.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RunPause } from '../store/records.ts';
import { collectBlobs, collectRun } from '../store/retention.ts';
import type { Store } from '../store/store.ts';
import type { AggregateRound } from '../strategy/strategy.ts';
import { UnmergeableUpdate } from '../strategy/unmergeable.ts';
import {
  type AnnounceBody,
  type BlobReference,
  chunkBytes,
  type EvaluationBody,
  type ManifestBody,
  type ReceiptBody,
  shortReason,
  type siteToCoordinator,
} from '../transport/messages.ts';
import { longestReconnectMs } from '../transport/reconnection.ts';
import { aggregateRound } from './close-round.ts';
import { isOpen, isOver, type RunEffect, type RunEvent } from './run-events.ts';
import { countTrainable, DamagedState, DamagedUpdate, openRunLedger } from './run-ledger.ts';
import { loadRunState, recordAccuracy, reportedOn, UnrecordableClaim, writeRun } from './run-records.ts';
import { reduceRun } from './run-reducer.ts';
import type { Fault } from './sender-budget.ts';
import { fetchStateAgain } from './state-recovery.ts';
import { pauseAfter, troubleOf } from './trouble.ts';
import { createUpdateReceiver } from './update-receiver.ts';
import { type Clock, machineClock, watchWallClock } from './wall-clock.ts';

/** What a run needs from the outside; the coordinator connects it to MQTT. */
export interface RunPorts {
  /** Replaces the retained manifest by what {@link RunEngine.manifest} says. @throws AppError see `isOffline` */
  publishManifest(): Promise<void>;
  sendReceipt(siteId: string, receipt: ReceiptBody): Promise<void>;
  /** Pulls a site's update into the blob store. */
  pull(siteId: string, reference: BlobReference, signal: AbortSignal): Promise<void>;
  /** Sites that are enrolled, not revoked and connected now. */
  onlineSites(): readonly string[];
  /** How long ago a site was last connected, in ms; 0 when it is online. */
  offlineForMs(siteId: string): number;
  /** A site did what no honest one does; counted against it. */
  fault(siteId: string, fault: Fault, what: string): void;
}

type Bodies = Omit<typeof siteToCoordinator, 'hello' | 'withdrawn'>;
/** What a site says about a run. */
export type RunMessage = {
  [Type in keyof Bodies]: { type: Type; body: z.output<Bodies[Type]> };
}[keyof Bodies];

export interface RunEngineOptions {
  runId: string;
  store: Store;
  blobs: BlobStore;
  base: BaseModel;
  /** A part of the contract. */
  askedBy: AskedBy;
  ports: RunPorts;
  logger: Logger;
  /** A hint that something about the run changed. */
  onChange: () => void;
  /** How long a site that lost its connection may hold up a round. */
  offlineGraceMs?: number;
  /** The machine's when absent. */
  clock?: Clock;
  /** Of noise for privacy; the operating system's cryptographic one when absent. Only tests and the simulation give one. */
  noise?: AggregateRound['noise'];
  products: AggregateRound['products'];
}

export interface RunEngine {
  readonly runId: string;
  resume(): Promise<void>;
  /** Call when sites come, go or say hello. */
  sitesChanged(): void;
  /** Call when a site is not listened to any more: what it was sending stops. */
  dismissed(siteId: string): void;
  /** Call at each connection: the broker may have lost its retained messages. */
  connected(): void;
  /** @returns whether it was dealt with for good; if not, the site is to say it again */
  received(siteId: string, message: RunMessage): Promise<boolean>;
  /** Call it when a file that a site asked for cannot be read here. */
  stateDamaged(sha256: string): void;
  /** Chunk bytes that the blob server really sent to a site. */
  bytesServed(sha256: string, bytes: number): void;
  /** Chunk bytes that came from a site. */
  bytesReceived(bytes: number): void;
  /** Whether a site may fetch this blob now. */
  offers(sha256: string): boolean;
  manifest(): ManifestBody;
  stop(): Promise<void>;
  /** Nothing happens in the run until somebody lets it go on. */
  pause(): Promise<void>;
  /** Goes on with a run that is paused or had failed; nothing when it is neither. */
  goOn(): Promise<void>;
  /** Why the run does not go on now; null when it does. */
  readonly paused: RunPause | null;
  /** Ends timers and transfers; the run goes on at the next start. */
  suspend(): Promise<void>;
}

/** How often the clock alone may change something: a deadline, the grace of a site that went away. */
const lookAgainMs = 1_000;

/** Longer than any site takes to come back to a broker that is there again, and to say that it did. */
export const defaultOfflineGraceMs = longestReconnectMs + 10_000;

/** How often one file is found damaged here before the disk is held to be at fault. */
const mostDamaged = 3;

export function createRunEngine(options: RunEngineOptions): RunEngine {
  const { runId, store, blobs, base, ports, logger, clock = machineClock } = options;
  const now = () => new Date(clock.wallMs());
  const watch = watchWallClock(clock);
  const queue = createSerialQueue();
  const ledger = openRunLedger(runId, store, blobs, base, options.askedBy);
  const { config } = ledger;
  const records = { runId, store, config, strategy: ledger.strategy };
  const rules = { ...config, runId, offlineGraceMs: options.offlineGraceMs ?? defaultOfflineGraceMs };
  const updates = createUpdateReceiver({
    ...{ ledger, store, blobs, logger, pull: ports.pull },
    onTransferred: async (siteId, body) => void (await turn(() => ({ type: 'transferred', siteId, body }))),
    onFailed: notTransferred,
  });
  let state = loadRunState(records);
  let timer: NodeJS.Timeout | undefined;
  let suspended = false;
  /** A pause that the store has not heard of, because it could not be written. */
  let unwritten: RunPause | null = null;
  /** How often the run has gone on by itself since a round opened or closed. */
  let tries = 0;
  const damaged = new Map<string, number>();
  const ending = new AbortController();

  /**
   * One event in its turn, with all that follows from it; what goes wrong in it pauses the run, and never ends the process.
   * @returns whether what the event says is in the store, or is nothing to be stored
   */
  function turn(eventOf: () => RunEvent | null | Promise<RunEvent | null>): Promise<boolean> {
    return queue.run(async () => {
      if (suspended) return false;
      clearTimeout(timer);
      let again = lookAgainMs;
      let isTaken = true;
      try {
        const byMs = watch.setByMs();
        if (byMs !== 0) {
          logger.warn({ runId, byMs }, 'the clock of this machine was set: deadlines move with it');
          await happen({ type: 'clock-set', byMs });
        }
        const event = await eventOf();
        if (event !== null) isTaken = await happen(event);
      } catch (thrown) {
        isTaken = thrown instanceof UnrecordableClaim && refuse(thrown);
        if (!isTaken) again = await getIntoTrouble(thrown);
      }
      if (!suspended && !isOver(state)) timer = setTimeout(look, again);
      return isTaken;
    });
  }

  function look(): void {
    void turn(() => {
      askAgain();
      if (unwritten === null) return { type: 'looked' };
      const pause = unwritten;
      state = { ...state, pause: null };
      return { type: 'paused', pause };
    });
  }

  /** A site says its update again until it has a receipt; not one that was received, and is damaged here since. */
  function askAgain(): void {
    const { current, round } = state;
    if (current === null || !isOpen(state, round)) return;
    const online = new Set(ports.onlineSites());
    for (const [siteId, { status }] of current.sites) {
      const body = status === 'announced' && online.has(siteId) ? announcementOf(siteId, round) : null;
      if (body !== null) updates.fetchAgain(siteId, body);
    }
  }

  function announcementOf(siteId: string, round: number): AnnounceBody | null {
    const row = store.roundSites.get(runId, round, siteId);
    if (row === null || row.updateSha256 === null || row.sizeBytes === null) return null;
    const { updateSha256: sha256, sizeBytes, examples, meanLoss, steps } = row;
    const said = { examples: examples ?? 1, meanLoss, steps: steps ?? 0 };
    return { runId, round, update: { sha256, sizeBytes, chunkBytes }, ...said };
  }

  /** @returns whether the first event was dealt with before the process began to end */
  async function happen(first: RunEvent): Promise<boolean> {
    const events = [first];
    for (let event = events.shift(); event !== undefined; event = events.shift()) {
      if (suspended) return event !== first;
      // Said again when the run goes on.
      if (state.pause !== null && (event.type === 'evaluated' || event.type === 'declined')) return false;
      const around = { now: now(), online: ports.onlineSites(), offlineForMs: ports.offlineForMs };
      const { state: next, effects } = reduceRun(rules, state, event, around);
      if (next.round !== state.round || next.current?.status !== state.current?.status) tries = 0;
      state = next;
      for (const effect of effects) {
        const answer = await carryOut(effect);
        if (answer !== undefined) events.push(answer);
      }
      if (effects.length > 0 && event.type !== 'progressed') options.onChange();
    }
    return true;
  }

  /**
   * Nothing that a site says may stop the others. Each write is a transaction, so that the store is as it was before;
   * if the store itself is at fault, that shows at the next look.
   * @returns false when the store cannot be read
   */
  function refuse({ siteId, cause }: UnrecordableClaim): boolean {
    try {
      state = loadRunState(records);
    } catch {
      return false;
    }
    logger.error({ error: cause, runId, siteId }, 'a message of a site was refused');
    ports.fault(siteId, 'message', 'cannot be recorded');
    return true;
  }

  /** @returns after how long the run is looked at again, if it is not over by then */
  async function getIntoTrouble(thrown: unknown): Promise<number> {
    if (thrown instanceof DamagedState && (await isMended(thrown))) return 0;
    logger.error({ error: thrown, runId }, 'something went wrong in a run');
    const trouble = troubleOf(thrown, runId);
    const failure = trouble.failure.toReport();
    const first = pauseAfter(trouble, tries++, now());
    const pause = { ...first, since: unwritten?.since ?? first.since };
    let known = state;
    try {
      // What broke off may not have been written: the store says what holds.
      known = loadRunState(records);
      state = known;
      await happen(trouble.kind === 'give-up' ? { type: 'failed', failure } : { type: 'paused', pause });
      return lookAgainMs;
    } catch (error) {
      logger.error({ error, runId }, 'what went wrong in a run is not recorded');
    }
    if (isOver(known)) return lookAgainMs;
    // On a full disk not even that can be written. It holds all the same until the process ends, and sites hear of it.
    state = { ...known, pause };
    unwritten = pause;
    updates.stop(null);
    await publish().catch(() => {});
    return 10 * lookAgainMs;
  }

  /** A damaged file of the run is computed anew, or fetched from a site that has it; the run goes on as after a start. */
  async function isMended({ sha256, cause }: DamagedState): Promise<boolean> {
    const count = (damaged.get(sha256) ?? 0) + 1;
    damaged.set(sha256, count);
    if (count > mostDamaged || isOver(state)) return false;
    logger.warn({ error: cause, runId, sha256, count }, 'a file of the run is damaged here');
    if (!(await fetchStateAgain({ ...{ ledger, blobs, ports, logger }, signal: ending.signal }, sha256)))
      return false;
    try {
      state = loadRunState(records);
      await happen({ type: 'resumed' });
      return true;
    } catch (error) {
      logger.warn({ error, runId }, 'the run does not go on after a file was mended');
      return false;
    }
  }

  async function carryOut(effect: RunEffect): Promise<RunEvent | undefined> {
    switch (effect.type) {
      case 'fetch':
        return updates.fetch(effect.siteId, effect.body);
      case 'judge':
        return judge(effect.siteId, effect.body);
      case 'stop-transfers':
        return updates.stop(effect.siteId);
      case 'answer':
        return void (await ports.sendReceipt(effect.siteId, effect.receipt).catch((error) => {
          // The site asks again; what can never be sent is no reason to fail the others.
          logger[isOffline(error) ? 'warn' : 'error']({ error, siteId: effect.siteId }, 'receipt not sent');
        }));
      case 'aggregate':
        return closeRound(effect.round);
      case 'tidy-up':
        return tidyUp(collectRun(store, blobs, runId, effect.fromRound));
      case 'publish':
        return publish();
      case 'record-accuracy':
        return void recordAccuracy(records, effect.stateSha256);
      case 'open-round':
        return openRound(effect);
      case 'end-run':
        logger.info({ runId, status: effect.status }, 'run ended');
    }
    writeRun(records, effect);
    switch (effect.type) {
      case 'pause-run':
        unwritten = null;
        logger.warn({ runId, kind: effect.pause.kind, code: effect.pause.failure?.code }, 'run paused');
        return undefined;
      case 'continue-run':
        unwritten = null;
        logger.info({ runId }, 'run goes on');
        return undefined;
      case 'refuse-update':
        return void ports.fault(effect.siteId, 'announcement', effect.reason);
      case 'reject-update':
        ports.fault(effect.siteId, 'update', effect.reason);
        return tidyUp(collectBlobs(store, blobs, [effect.body.update.sha256]));
      case 'drop-update':
        ports.fault(effect.siteId, 'update', effect.reason);
        return tidyUp(collectBlobs(store, blobs, [effect.updateSha256]));
    }
    return undefined;
  }

  async function notTransferred(siteId: string, body: AnnounceBody, error: AppError): Promise<void> {
    const { round, update } = body;
    if (suspended) return;
    if (error.code === 'DISK_FULL') return void (await turn(() => Promise.reject(error)));
    if (error.code === 'BLOB_CORRUPT') {
      const verdict = 'The update was rejected: its bytes are not those that were announced.';
      await turn(() => ({ type: 'judged', siteId, body, verdict }));
      return;
    }
    // Begun again when the site repeats its announcement. What another update took the place of goes now.
    if (error.code !== 'CANCELLED') logger.warn({ error, runId, round, siteId }, 'update not received');
    await tidyUp(collectBlobs(store, blobs, [update.sha256]));
  }

  /** What is left over now is deleted the next time. */
  async function tidyUp(collected: Promise<unknown>): Promise<undefined> {
    await collected.catch((error) => logger.warn({ error, runId }, 'files that nobody needs not deleted'));
  }

  /** Publishes what the store says. Offline that waits for the next connection; else the run could only wait for ever. */
  async function publish(): Promise<undefined> {
    options.onChange();
    try {
      await ports.publishManifest();
    } catch (error) {
      if (!isOffline(error) && !isOver(state)) throw error;
      logger.warn({ error, runId }, 'manifest not published yet');
    }
  }

  async function openRound(effect: Extract<RunEffect, { type: 'open-round' }>): Promise<undefined> {
    const { round, startSha256, participants, members } = effect;
    const plan = ledger.planOf(round);
    const start = await ledger.readState(startSha256, round);
    const { stage, rank } = plan;
    const facts = { stage, rank, trainableParameters: countTrainable(start, plan, config, base) };
    writeRun(records, effect, facts);
    const sites = (participants ?? members).length;
    logger.info({ runId, round, ...facts, sites }, 'round opened');
  }

  async function closeRound(round: number): Promise<RunEvent> {
    options.onChange();
    const closed = await aggregateRound(store, blobs, ledger, round, options).catch((thrown) => {
      if (thrown instanceof UnmergeableUpdate || thrown instanceof DamagedUpdate) return thrown;
      throw thrown;
    });
    if (closed instanceof DamagedUpdate) return damage(round, closed);
    if (closed instanceof UnmergeableUpdate) {
      const { siteId, message } = closed;
      return { type: 'unmergeable', round, siteId, reason: shortReason(message) };
    }
    const { sites, energyKept, resultSha256 } = closed;
    logger.info({ runId, round, sites, energyKept }, 'round closed');
    await ledger.countFrozenBase();
    return { type: 'aggregated', round, resultSha256, reported: reportedOn(records, resultSha256) };
  }

  async function judge(siteId: string, body: AnnounceBody): Promise<RunEvent> {
    try {
      return { type: 'judged', siteId, body, verdict: await updates.judge(siteId, body) };
    } catch (thrown) {
      if (thrown instanceof DamagedUpdate) return damage(body.round, thrown);
      throw thrown;
    }
  }

  /** @throws AppError BLOB_CORRUPT when it happens again and again */
  function damage(round: number, { siteId, updateSha256, cause }: DamagedUpdate): RunEvent {
    logger.warn({ error: cause, runId, round, siteId }, 'an update is damaged here and is asked for again');
    updates.forget(siteId, updateSha256);
    const count = (damaged.get(updateSha256) ?? 0) + 1;
    damaged.set(updateSha256, count);
    if (count <= mostDamaged) return { type: 'damaged', round, siteId, updateSha256 };
    damaged.delete(updateSha256);
    const text = 'The disk of the coordinator damages files: an update was damaged several times.';
    throw new AppError('BLOB_CORRUPT', text, { cause });
  }

  async function announced(siteId: string, body: AnnounceBody): Promise<RunEvent> {
    const row = store.roundSites.get(runId, body.round, siteId);
    const isNew = isOpen(state, body.round) && row?.updateSha256 !== body.update.sha256;
    const refusal = isNew ? await updates.refusalOf(siteId, body) : null;
    return { type: 'announced', siteId, body, row, refusal };
  }

  function evaluated(siteId: string, body: EvaluationBody): RunEvent | null {
    if (!ledger.isGlobalState(body.stateSha256)) return null;
    if (body.counts !== undefined && body.counts.classes !== config.classes.length) {
      ports.fault(siteId, 'message', 'counts of other classes');
      return null;
    }
    return { type: 'evaluated', siteId, body, reported: reportedOn(records, body.stateSha256) };
  }

  return {
    runId,
    manifest: () => ledger.manifest(state.pause),
    offers: ledger.offers,
    async resume() {
      await turn(async () => {
        await ledger.countFrozenBase();
        return { type: 'resumed' };
      });
    },
    sitesChanged: () => void turn(() => ({ type: 'sites-changed' })),
    dismissed: (siteId) => updates.stop(siteId),
    connected: () => void publish().catch((error) => turn(() => Promise.reject(error))),
    async received(siteId, message) {
      switch (message.type) {
        case 'progress':
          // A hint, and nothing waits for it.
          if (isOpen(state, message.body.round))
            void turn(() => ({ type: 'progressed', siteId, body: message.body }));
          return true;
        case 'announce':
          return turn(() => announced(siteId, message.body));
        case 'evaluation':
          return turn(() => evaluated(siteId, message.body));
        case 'declined':
          return turn(() => ({ type: 'declined', siteId, body: message.body }));
      }
    },
    bytesReceived(bytes) {
      store.rounds.addTraffic(runId, { bytesUp: bytes });
    },
    stateDamaged(sha256) {
      if (!ledger.offers(sha256)) return;
      // Many ask for the same file: it may be whole again when it is this one's turn.
      void turn(async () => {
        if (await blobs.verify(sha256)) return null;
        throw new DamagedState(sha256);
      });
    },
    bytesServed(sha256, bytes) {
      const reference = ledger.offers(sha256) ? ledger.referenceTo(sha256) : null;
      if (reference === null) return;
      const parametersDown = Math.round((ledger.valuesIn(sha256) * bytes) / reference.sizeBytes);
      store.rounds.addTraffic(runId, { bytesDown: bytes, parametersDown });
    },
    stop: async () => void (await turn(() => ({ type: 'stopped' }))),
    async pause() {
      const since = now().toISOString();
      const pause = { kind: 'asked', failure: null, since, retryAt: null } as const;
      await turn(() => ({ type: 'paused', pause }));
    },
    async goOn() {
      tries = 0;
      damaged.clear();
      await turn(() => ({ type: 'continued' }));
    },
    get paused() {
      return state.pause;
    },
    async suspend() {
      suspended = true;
      ending.abort();
      clearTimeout(timer);
      updates.stop(null);
      await queue.idle();
    },
  };
}
