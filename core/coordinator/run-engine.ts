/**
 * The coordinator's state machine for one run. Everything that matters is in SQLite before it is acted upon,
 * so that a killed coordinator goes on with the round it was in: `resume()` derives the manifest, the missing
 * transfers and an interrupted aggregation from the store alone.
 */

import type { BaseModel } from '../models/base-model.ts';
import { toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { createSerialQueue } from '../shared/serial.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { collectRun } from '../store/retention.ts';
import type { Store } from '../store/store.ts';
import { participantsOf } from '../strategy/participation.ts';
import type { AggregateRound } from '../strategy/strategy.ts';
import type { AnnounceBody, EvaluationBody, ManifestBody, ProgressBody } from '../transport/messages.ts';
import { createAttendance } from './attendance.ts';
import { aggregateRound, freezeRound } from './close-round.ts';
import type { RunPorts } from './ports.ts';
import { openRunLedger } from './run-ledger.ts';
import { countTrainable } from './trainable-values.ts';
import { createUpdateReceiver } from './update-receiver.ts';

export interface RunEngineOptions {
  runId: string;
  store: Store;
  blobs: BlobStore;
  base: BaseModel;
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
  announced(siteId: string, body: AnnounceBody): Promise<void>;
  evaluated(siteId: string, body: EvaluationBody): Promise<void>;
  progressed(siteId: string, body: ProgressBody): void;
  declined(siteId: string, round: number, reason: string): Promise<void>;
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
  const ledger = openRunLedger(runId, store, blobs, base);
  const { config } = ledger;
  const offlineGraceMs = options.offlineGraceMs ?? 15_000;
  const attendance = createAttendance({ ledger, store, ports, offlineGraceMs });
  const updateReceiver = createUpdateReceiver({
    ledger,
    store,
    blobs,
    ports,
    logger,
    step,
    onChange: options.onChange,
  });
  let timer: NodeJS.Timeout | undefined;
  let suspended = false;

  const isOver = () => suspended || ledger.isOver();

  /** One step of the machine in its turn; whatever goes wrong in it fails the run, not the process. */
  function step(task: () => Promise<void> | void): Promise<void> {
    return queue
      .run(async () => {
        await task();
        await consider();
      })
      .catch(fail);
  }

  async function fail(thrown: unknown): Promise<void> {
    logger.error({ error: thrown, runId }, 'run failed');
    try {
      store.runs.update(runId, {
        status: 'failed',
        finishedAt: store.now(),
        failure: toAppError(thrown).toReport(),
      });
      await tidyUp();
      await announceState();
    } catch (error) {
      // On a full disk not even the failure can be written: the run stays as it is and is looked at again.
      logger.error({ error, runId }, 'failure of the run not recorded');
      clearTimeout(timer);
      if (!suspended) timer = setTimeout(() => void step(() => {}), 10 * lookAgainMs);
    }
  }

  /** Publishes what the store says; an unreachable broker is no reason to fail, the link publishes again. */
  async function announceState(): Promise<void> {
    options.onChange();
    try {
      await ports.publishManifest(ledger.manifest());
    } catch (error) {
      logger.warn({ error, runId }, 'manifest not published yet');
    }
  }

  /** Decides from the store what comes next. Safe to call at any time. */
  async function consider(): Promise<void> {
    clearTimeout(timer);
    if (isOver()) return;
    const { status, round } = ledger.run();
    if (status === 'waiting') {
      if (ports.onlineSites().length >= config.quorum) await openRound(round);
    } else if (status === 'running') {
      const record = store.rounds.get(runId, round);
      if (record === null) await openRound(round);
      else if (record.status === 'aggregating' || attendance.mayClose(record)) await closeRound(round);
      else if (attendance.drawSubstitutes(record)) await announceState();
    } else if (status === 'evaluating') {
      await finishIfEvaluated();
    }
    if (!isOver()) timer = setTimeout(() => void step(() => {}), lookAgainMs);
  }

  async function openRound(round: number): Promise<void> {
    const start = ledger.newestState();
    const plan = ledger.planOf(round);
    const { stage, rank } = plan;
    const state = await ledger.readState(start, round);
    const trainableParameters = countTrainable(state, plan, config, base);
    const deadlineAt = new Date(Date.now() + config.roundDeadlineMs).toISOString();
    const online = ports.onlineSites();
    const participants = config.participation < 1 ? participantsOf(config, round, online) : null;
    const opened = { runId, round, stage, rank };
    store.transaction(() => {
      store.rounds.insert({
        ...opened,
        trainableParameters,
        startSha256: start,
        deadlineAt,
        participants,
      });
      store.runs.update(runId, { status: 'running', round });
      store.audit.append({
        actor: 'coordinator',
        action: 'round-opened',
        details: { ...opened, state: start, ...(participants === null ? {} : { participants }) },
      });
    });
    attendance.begin();
    logger.info({ ...opened, sites: participants?.length ?? online.length }, 'round opened');
    await announceState();
  }

  async function closeRound(round: number): Promise<void> {
    const record = store.rounds.get(runId, round)!;
    if (record.status === 'open') {
      freezeRound(store, ledger, round, attendance.sites());
      updateReceiver.stop();
      options.onChange();
    }
    // Sites that did not evaluate by now are left out of the accuracy of the state this round began with.
    recordAccuracy(record.startSha256);
    const { sites, energyKept, isLast } = await aggregateRound(store, blobs, ledger, round, options);
    logger.info({ runId, round, sites, energyKept }, 'round closed');
    await ledger.countFrozenBase();
    await tidyUp(round - 1);
    if (!isLast) return openRound(round + 1);
    attendance.begin();
    await announceState();
  }

  /** What is left over now is deleted the next time. */
  const tidyUp = (fromRound = 0) =>
    collectRun(store, blobs, runId, fromRound).catch((error) =>
      logger.warn({ error, runId }, 'leftovers of closed rounds not deleted'),
    );

  /** Federated accuracy of the round that ended with this state; a part of the sites would mislead. */
  function recordAccuracy(stateSha256: string): void {
    const round = store.rounds.listOfRun(runId).find((candidate) => candidate.resultSha256 === stateSha256);
    if (round === undefined) return;
    const rows = store.evaluations.ofState(runId, stateSha256);
    const metrics = ledger.strategy.aggregateEvaluate(config, rows);
    store.rounds.update(runId, round.round, { accuracy: metrics.accuracy, metrics });
  }

  async function finishIfEvaluated(): Promise<void> {
    const state = ledger.newestState();
    const { closedAt } = store.rounds.get(runId, ledger.run().round)!;
    const isLate = closedAt !== null && Date.now() > Date.parse(closedAt) + config.roundDeadlineMs;
    if (attendance.awaitedEvaluations(state).length > 0 && !isLate) return;
    recordAccuracy(state);
    store.transaction(() => {
      store.runs.update(runId, { status: 'finished', finishedAt: store.now() });
      store.audit.append({ actor: 'coordinator', action: 'run-finished', details: { runId, state } });
    });
    logger.info({ runId }, 'run finished');
    await tidyUp();
    await announceState();
  }

  return {
    runId,
    manifest: ledger.manifest,
    offers: ledger.offers,
    resume: () =>
      step(async () => {
        const { round } = ledger.run();
        attendance.begin();
        attendance.add(ledger.sitesOf(round).map((row) => row.siteId));
        attendance.add(store.rounds.get(runId, round)?.participants ?? []);
        await ledger.countFrozenBase();
        await tidyUp();
        await announceState();
      }),
    sitesChanged() {
      if (isOver()) return;
      // Right after a start nobody is online yet: whoever comes while no update is in belongs to the round.
      const { status, round } = ledger.run();
      if (status !== 'waiting' && !ledger.sitesOf(round).some((row) => row.status === 'received')) {
        attendance.add(ports.onlineSites());
      }
      void step(() => {});
    },
    announced: (siteId, body) =>
      step(async () => {
        if (ledger.isOpen(body.round)) attendance.add([siteId]);
        // A receipt that does not get through is asked for again.
        await updateReceiver.announced(siteId, body).catch((error) => {
          if (toAppError(error).code !== 'BROKER_UNREACHABLE') throw error;
        });
      }),
    evaluated: (siteId, { stateSha256, correct, total, counts }) =>
      step(() => {
        if (!ledger.isGlobalState(stateSha256)) return;
        const fits = counts !== undefined && counts.classes === config.classes.length;
        if (counts !== undefined && !fits) logger.warn({ runId, siteId }, 'counts of other classes left out');
        const row = { runId, stateSha256, siteId, correct, total };
        store.evaluations.upsert({ ...row, counts: fits ? counts : null });
        if (attendance.awaitedEvaluations(stateSha256).length === 0) recordAccuracy(stateSha256);
        options.onChange();
      }),
    progressed(siteId, { round, step: done, steps, loss }) {
      if (!ledger.isOpen(round) || !ledger.trains(siteId, round)) return;
      const row = store.roundSites.get(runId, round, siteId);
      // A site that had declined, for instance because it was paused, may have changed its mind.
      if (row !== null && row.status !== 'working' && row.status !== 'absent') return;
      attendance.add([siteId]);
      const progress = { step: done, steps, meanLoss: loss };
      store.roundSites.upsert({ runId, round, siteId, status: 'working', reason: null, ...progress });
    },
    declined: (siteId, round, reason) =>
      step(() => {
        if (ledger.run().status === 'evaluating') attendance.remove(siteId);
        if (!ledger.isOpen(round) || store.roundSites.get(runId, round, siteId)?.status === 'received')
          return;
        store.roundSites.upsert({ runId, round, siteId, status: 'absent', reason });
      }),
    bytesReceived(bytes) {
      store.rounds.addTraffic(runId, { bytesUp: bytes });
    },
    bytesServed(sha256, bytes) {
      if (!ledger.offers(sha256)) return;
      const parametersDown = Math.round((ledger.valuesIn(sha256) * bytes) / blobs.sizeBytes(sha256));
      store.rounds.addTraffic(runId, { bytesDown: bytes, parametersDown });
    },
    stop: () =>
      step(async () => {
        if (isOver()) return;
        store.transaction(() => {
          store.runs.update(runId, { status: 'stopped', finishedAt: store.now() });
          store.audit.append({ actor: 'coordinator', action: 'run-stopped', details: { runId } });
        });
        updateReceiver.stop();
        await tidyUp();
        await announceState();
      }),
    async suspend() {
      suspended = true;
      clearTimeout(timer);
      updateReceiver.stop();
      await queue.idle();
    },
  };
}
