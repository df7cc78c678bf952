/**
 * Carries a run: brings what happens to the reducer in order and its effects to the store, the sites and the aggregation.
 * Everything that matters is in SQLite before it is acted upon, so that a killed coordinator goes on with the round it
 * was in: `resume()` derives the manifest, the missing transfers and an interrupted aggregation from the store alone.
 */
import type { z } from 'zod';
import type { BaseModel } from '../models/base-model.ts';
import type { AskedBy } from '../policy/contract.ts';
import { type AppError, isOffline, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { createSerialQueue } from '../shared/serial.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { collectBlobs, collectRun } from '../store/retention.ts';
import type { Store } from '../store/store.ts';
import type { AggregateRound } from '../strategy/strategy.ts';
import { UnmergeableUpdate } from '../strategy/unmergeable.ts';
import {
  type AnnounceBody,
  type BlobReference,
  type EvaluationBody,
  type ManifestBody,
  type ReceiptBody,
  shortReason,
  type siteToCoordinator,
} from '../transport/messages.ts';
import { aggregateRound } from './close-round.ts';
import { countTrainable, openRunLedger } from './run-ledger.ts';
import { loadRunState, recordAccuracy, reportedOn, UnrecordableClaim, writeRun } from './run-records.ts';
import { isOpen, isOver, type RunEffect, type RunEvent, reduceRun } from './run-reducer.ts';
import type { Fault } from './sender-budget.ts';
import { createUpdateReceiver } from './update-receiver.ts';

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
  /** Chunk bytes that the blob server really sent to a site. */
  bytesServed(sha256: string, bytes: number): void;
  /** Chunk bytes that came from a site. */
  bytesReceived(bytes: number): void;
  /** Whether a site may fetch this blob now. */
  offers(sha256: string): boolean;
  manifest(): ManifestBody;
  stop(): Promise<void>;
  /** Ends timers and transfers; the run goes on at the next start. */
  suspend(): Promise<void>;
}

/** How often the clock alone may change something: a deadline, the grace of a site that went away. */
const lookAgainMs = 1_000;

export function createRunEngine(options: RunEngineOptions): RunEngine {
  const { runId, store, blobs, base, ports, logger } = options;
  const queue = createSerialQueue();
  const ledger = openRunLedger(runId, store, blobs, base, options.askedBy);
  const { config } = ledger;
  const records = { runId, store, config, strategy: ledger.strategy };
  const rules = { ...config, runId, offlineGraceMs: options.offlineGraceMs ?? 15_000 };
  const updates = createUpdateReceiver({
    ...{ ledger, store, blobs, logger, pull: ports.pull },
    onTransferred: async (siteId, body) => void (await turn(() => ({ type: 'transferred', siteId, body }))),
    onFailed: notTransferred,
  });
  let state = loadRunState(records);
  let timer: NodeJS.Timeout | undefined;
  let suspended = false;

  /**
   * One event in its turn, with all that follows from it; what goes wrong in it fails the run, not the process.
   * @returns whether what the event says is in the store, or is nothing to be stored
   */
  function turn(eventOf: () => RunEvent | null | Promise<RunEvent | null>): Promise<boolean> {
    return queue.run(async () => {
      if (suspended) return false;
      clearTimeout(timer);
      let again = lookAgainMs;
      let isTaken = true;
      try {
        const event = await eventOf();
        if (event !== null) isTaken = await happen(event);
      } catch (thrown) {
        isTaken = thrown instanceof UnrecordableClaim && refuse(thrown);
        if (!isTaken) again = await fail(thrown);
      }
      if (!suspended && !isOver(state))
        timer = setTimeout(() => void turn(() => ({ type: 'looked' })), again);
      return isTaken;
    });
  }

  /** @returns whether the first event was dealt with before the process began to end */
  async function happen(first: RunEvent): Promise<boolean> {
    const events = [first];
    for (let event = events.shift(); event !== undefined; event = events.shift()) {
      if (suspended) return event !== first;
      const around = { now: new Date(), online: ports.onlineSites(), offlineForMs: ports.offlineForMs };
      const { state: next, effects } = reduceRun(rules, state, event, around);
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
      state = { ...loadRunState(records), expected: state.expected };
    } catch {
      return false;
    }
    logger.error({ error: cause, runId, siteId }, 'a message of a site was refused');
    ports.fault(siteId, 'message', 'cannot be recorded');
    return true;
  }

  /** @returns after how long the run is looked at again, if it is not over by then */
  async function fail(thrown: unknown): Promise<number> {
    logger.error({ error: thrown, runId }, 'run failed');
    let known = state;
    try {
      // What broke off may not have been written: the store says what holds.
      known = { ...loadRunState(records), expected: state.expected };
      state = known;
      await happen({ type: 'failed', failure: toAppError(thrown).toReport() });
    } catch (error) {
      // On a full disk not even the failure can be written: the run stays as it is.
      state = known;
      logger.error({ error, runId }, 'failure of the run not recorded');
    }
    return 10 * lookAgainMs;
  }

  async function carryOut(effect: RunEffect): Promise<RunEvent | undefined> {
    switch (effect.type) {
      case 'fetch':
        return updates.fetch(effect.siteId, effect.body);
      case 'judge':
        return { ...effect, type: 'judged', verdict: await updates.judge(effect.siteId, effect.body) };
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
    const { round, startSha256, participants } = effect;
    const plan = ledger.planOf(round);
    const start = await ledger.readState(startSha256, round);
    const { stage, rank } = plan;
    const facts = { stage, rank, trainableParameters: countTrainable(start, plan, config, base) };
    writeRun(records, effect, facts);
    const sites = (participants ?? ports.onlineSites()).length;
    logger.info({ runId, round, ...facts, sites }, 'round opened');
  }

  async function closeRound(round: number): Promise<RunEvent> {
    options.onChange();
    const closed = await aggregateRound(store, blobs, ledger, round, options).catch((thrown) => {
      if (thrown instanceof UnmergeableUpdate) return thrown;
      throw thrown;
    });
    if (closed instanceof UnmergeableUpdate) {
      const { siteId, message } = closed;
      return { type: 'unmergeable', round, siteId, reason: shortReason(message) };
    }
    const { sites, energyKept, resultSha256 } = closed;
    logger.info({ runId, round, sites, energyKept }, 'round closed');
    await ledger.countFrozenBase();
    return { type: 'aggregated', round, resultSha256, reported: reportedOn(records, resultSha256) };
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
    manifest: ledger.manifest,
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
    bytesServed(sha256, bytes) {
      if (!ledger.offers(sha256)) return;
      const parametersDown = Math.round((ledger.valuesIn(sha256) * bytes) / blobs.sizeBytes(sha256));
      store.rounds.addTraffic(runId, { bytesDown: bytes, parametersDown });
    },
    stop: async () => void (await turn(() => ({ type: 'stopped' }))),
    async suspend() {
      suspended = true;
      clearTimeout(timer);
      updates.stop(null);
      await queue.idle();
    },
  };
}
