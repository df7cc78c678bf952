/**
 * The coordinator's state machine for one run. Everything that matters is in SQLite before it is acted upon,
 * so that a killed coordinator goes on with the round it was in: `resume()` derives the manifest, the missing
 * transfers and an interrupted aggregation from the store alone.
 */
import { countParameters, type ModelState } from '../lora/model-state.ts';
import { decodeModelState, encodeModelState } from '../lora/state-file.ts';
import type { BaseModel } from '../models/base-model.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import type { Logger } from '../shared/logger.ts';
import { createSerialQueue } from '../shared/serial.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RoundSiteRecord, RunRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { checkUpdate } from '../strategy/check-update.ts';
import { getStrategy } from '../strategy/registry.ts';
import { type RoundPlan, type RunConfig, runConfigSchema, type SiteUpdate } from '../strategy/strategy.ts';
import type {
  AnnounceBody,
  BlobReference,
  EvaluationBody,
  ManifestBody,
  ProgressBody,
} from '../transport/messages.ts';
import { chunkBytes } from '../transport/messages.ts';
import type { RunPorts } from './ports.ts';

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

const finalStatuses = new Set(['finished', 'failed', 'stopped']);

export function createRunEngine(options: RunEngineOptions): RunEngine {
  const { runId, store, blobs, base, ports, logger } = options;
  const offlineGraceMs = options.offlineGraceMs ?? 15_000;
  const queue = createSerialQueue();
  const pulls = new Map<string, AbortController>();
  const config: RunConfig = runConfigSchema.parse(requireRun().config);
  const configSha256 = hashJson(config);
  const strategy = getStrategy(config.strategy);
  /** Sites whose work this round waits for; derived again after a restart from who is online and who has begun. */
  let expected = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  let suspended = false;

  function requireRun(): RunRecord {
    const run = store.runs.get(runId);
    if (run === null) throw new AppError('NOT_FOUND', 'This run does not exist.');
    return run;
  }

  const isOver = () => suspended || finalStatuses.has(requireRun().status);
  const planOf = (round: number): RoundPlan => strategy.configureTrain(config, round);
  const sitesOf = (round: number): RoundSiteRecord[] => store.roundSites.list(runId, round);

  function reference(sha256: string): BlobReference {
    return { sha256, sizeBytes: blobs.sizeBytes(sha256), chunkBytes };
  }

  async function readState(sha256: string): Promise<ModelState> {
    return decodeModelState(await blobs.read(sha256), 'global state');
  }

  /** The newest global state: the result of the last closed round, or the one the run started from. */
  function newestState(): string {
    const closed = store.rounds.listOfRun(runId).filter((round) => round.resultSha256 !== null);
    const last = closed.at(-1)?.resultSha256;
    if (last !== undefined && last !== null) return last;
    return store.adapters.list({ runId, kind: 'global' }).find((row) => row.round === -1)!.sha256;
  }

  function manifest(): ManifestBody {
    const run = requireRun();
    const round = store.rounds.get(runId, run.round);
    const phase: ManifestBody['phase'] =
      run.status === 'failed'
        ? 'stopped'
        : run.status === 'running'
          ? 'train'
          : run.status === 'evaluating'
            ? 'evaluate'
            : run.status;
    const state =
      phase === 'train' ? (round?.startSha256 ?? null) : phase === 'waiting' ? null : newestState();
    return {
      runId,
      config,
      configSha256,
      phase,
      round: run.round,
      plan: planOf(run.round),
      state: state === null ? null : reference(state),
      deadlineAt: round?.deadlineAt ?? null,
    };
  }

  /** Publishes what the store says; an unreachable broker is no reason to fail, the link publishes again. */
  async function announceState(): Promise<void> {
    options.onChange();
    try {
      await ports.publishManifest(manifest());
    } catch (error) {
      logger.warn({ error, runId }, 'manifest not published yet');
    }
  }

  async function openRound(round: number): Promise<void> {
    const start = newestState();
    const plan = planOf(round);
    const state = await readState(start);
    const now = Date.now();
    store.transaction(() => {
      store.rounds.insert({
        runId,
        round,
        stage: plan.stage,
        rank: plan.rank,
        status: 'open',
        trainableParameters: countTrainable(state, plan),
        startSha256: start,
        openedAt: new Date(now).toISOString(),
        deadlineAt: new Date(now + config.roundDeadlineMs).toISOString(),
      });
      store.runs.update(runId, { status: 'running', round });
      store.audit.append({
        actor: 'coordinator',
        action: 'round-opened',
        details: { runId, round, stage: plan.stage, rank: plan.rank, state: start },
      });
    });
    expected = new Set(ports.onlineSites());
    logger.info({ runId, round, stage: plan.stage, rank: plan.rank, sites: expected.size }, 'round opened');
    await announceState();
    schedule();
  }

  function countTrainable(state: ModelState, plan: RoundPlan): number {
    if (plan.mode === 'head') return countParameters({ ...state, lora: new Map(), base: new Map() });
    if (plan.mode !== 'full') return countParameters(state);
    const weights = [...base.weights.values()].reduce((sum, tensor) => sum + tensor.data.length, 0);
    return weights + countParameters({ ...state, lora: new Map(), base: new Map() });
  }

  /** Looks again when the deadline or the grace of an absent site may have passed. */
  function schedule(): void {
    clearTimeout(timer);
    if (isOver()) return;
    timer = setTimeout(() => void queue.run(consider).catch(fail), 1000);
  }

  async function fail(thrown: unknown): Promise<void> {
    const error = toAppError(thrown);
    logger.error({ error: thrown, runId }, 'run failed');
    store.runs.update(runId, {
      status: 'failed',
      finishedAt: new Date().toISOString(),
      failure: error.toReport(),
    });
    await announceState();
  }

  /** Decides from the store what comes next. Safe to call at any time. */
  async function consider(): Promise<void> {
    if (isOver()) return;
    const run = requireRun();
    if (run.status === 'waiting') {
      if (ports.onlineSites().length >= config.quorum) await openRound(run.round);
    } else if (run.status === 'running') {
      const round = store.rounds.get(runId, run.round);
      if (round === null) await openRound(run.round);
      else if (round.status === 'aggregating' || mayClose(run.round, round.deadlineAt))
        await closeRound(run.round);
    } else if (run.status === 'evaluating') {
      await finishIfEvaluated();
    }
    schedule();
  }

  function mayClose(round: number, deadlineAt: string | null): boolean {
    const rows = sitesOf(round);
    const received = rows.filter((row) => row.status === 'received').length;
    if (received < config.quorum) return false;
    if (deadlineAt !== null && Date.now() >= Date.parse(deadlineAt)) return true;
    return pendingSites(rows).length === 0;
  }

  function pendingSites(rows: readonly RoundSiteRecord[]): string[] {
    const settled = new Set(
      rows
        .filter((row) => row.status === 'received' || row.status === 'rejected' || row.status === 'absent')
        .map((row) => row.siteId),
    );
    return [...expected].filter(
      (siteId) => !settled.has(siteId) && ports.offlineForMs(siteId) < offlineGraceMs,
    );
  }

  async function* receivedUpdates(rows: readonly RoundSiteRecord[]): AsyncGenerator<SiteUpdate> {
    for (const row of rows) {
      if (row.status !== 'received' || row.updateSha256 === null) continue;
      const state = decodeModelState(await blobs.read(row.updateSha256), `update of ${row.siteId}`);
      yield { siteId: row.siteId, examples: row.examples ?? 1, state };
    }
  }

  async function closeRound(round: number): Promise<void> {
    const record = store.rounds.get(runId, round)!;
    if (record.status === 'open') {
      store.transaction(() => {
        store.rounds.update(runId, round, { status: 'aggregating' });
        for (const siteId of expected) {
          const row = store.roundSites.get(runId, round, siteId);
          if (row === null || row.status === 'working' || row.status === 'announced') {
            store.roundSites.upsert({
              runId,
              round,
              siteId,
              status: 'absent',
              reason: 'No update arrived before the round closed.',
            });
          }
        }
      });
      for (const pull of pulls.values()) pull.abort();
      options.onChange();
    }
    const rows = sitesOf(round)
      .filter((row) => row.status === 'received')
      .sort((a, b) => (a.siteId < b.siteId ? -1 : 1));
    // Sites that did not evaluate by now are left out of the accuracy of the state this round began with.
    recordAccuracy(record.startSha256);
    const isLast = round + 1 >= config.rounds;
    const nextPlan = planOf(isLast ? round : round + 1);
    const global = await readState(record.startSha256);
    const result = await strategy.aggregateTrain(config, global, receivedUpdates(rows), nextPlan);
    const sha256 = await blobs.put(encodeModelState(result.state));
    const weight = rows.reduce((sum, row) => sum + (row.examples ?? 1), 0);
    const meanLoss = rows.reduce((sum, row) => sum + (row.meanLoss ?? 0) * (row.examples ?? 1), 0) / weight;
    const now = new Date().toISOString();
    store.transaction(() => {
      store.rounds.update(runId, round, {
        status: 'closed',
        resultSha256: sha256,
        closedAt: now,
        meanLoss,
        energyKept: result.energyKept,
      });
      store.adapters.insert({
        sha256,
        runId,
        round,
        kind: 'global',
        siteId: null,
        rank: nextPlan.rank,
        parameters: countParameters(result.state),
        sizeBytes: blobs.sizeBytes(sha256),
        createdAt: now,
      });
      store.runs.update(runId, isLast ? { status: 'evaluating' } : { round: round + 1 });
      store.audit.append({
        actor: 'coordinator',
        action: 'round-closed',
        details: { runId, round, sites: rows.map((row) => row.siteId), result: sha256 },
      });
    });
    logger.info({ runId, round, sites: rows.length, energyKept: result.energyKept }, 'round closed');
    if (isLast) {
      expected = new Set(ports.onlineSites());
      await announceState();
    } else {
      await openRound(round + 1);
    }
  }

  function waitingForEvaluation(stateSha256: string): string[] {
    const reported = new Set(store.evaluations.ofState(runId, stateSha256).map((row) => row.siteId));
    return [...expected].filter(
      (siteId) => !reported.has(siteId) && ports.offlineForMs(siteId) < offlineGraceMs,
    );
  }

  /** Federated accuracy of the round that ended with this state; part of the sites would mislead. */
  function recordAccuracy(stateSha256: string): void {
    const round = store.rounds.listOfRun(runId).find((candidate) => candidate.resultSha256 === stateSha256);
    if (round === undefined) return;
    const { accuracy } = strategy.aggregateEvaluate(store.evaluations.ofState(runId, stateSha256));
    store.rounds.update(runId, round.round, { accuracy });
  }

  async function finishIfEvaluated(): Promise<void> {
    const state = newestState();
    const waiting = waitingForEvaluation(state);
    const round = store.rounds.get(runId, requireRun().round)!;
    const late = round.closedAt !== null && Date.now() > Date.parse(round.closedAt) + config.roundDeadlineMs;
    if (waiting.length > 0 && !late) return;
    recordAccuracy(state);
    store.transaction(() => {
      store.runs.update(runId, { status: 'finished', finishedAt: new Date().toISOString() });
      store.audit.append({ actor: 'coordinator', action: 'run-finished', details: { runId, state } });
    });
    logger.info({ runId }, 'run finished');
    await announceState();
  }

  /** Starts the transfer of an announced update unless it runs already. */
  function startPull(siteId: string, round: number, body: AnnounceBody): void {
    const key = `${siteId} ${body.update.sha256}`;
    if (pulls.has(key)) return;
    const abort = new AbortController();
    pulls.set(key, abort);
    void receiveUpdate(siteId, round, body, abort.signal)
      .catch((error) => logger.warn({ error, runId, round, siteId }, 'update not received'))
      .finally(() => pulls.delete(key));
  }

  async function receiveUpdate(
    siteId: string,
    round: number,
    body: AnnounceBody,
    signal: AbortSignal,
  ): Promise<void> {
    await ports.pull(siteId, body.update, signal);
    await queue
      .run(async () => {
        const run = requireRun();
        const row = store.roundSites.get(runId, round, siteId);
        if (
          run.round !== round ||
          store.rounds.get(runId, round)?.status !== 'open' ||
          row?.updateSha256 !== body.update.sha256
        )
          return;
        const receipt = await judge(siteId, round, body);
        options.onChange();
        await ports
          .sendReceipt(siteId, receipt)
          .catch((error) => logger.warn({ error, siteId }, 'receipt not sent yet'));
        await consider();
      })
      .catch(fail);
  }

  /** Accepts or rejects a complete update; never lets a bad one hurt the others. */
  async function judge(siteId: string, round: number, body: AnnounceBody) {
    const key = { runId, round, siteId };
    const receipt = { runId, round, updateSha256: body.update.sha256 };
    try {
      const state = decodeModelState(await blobs.read(body.update.sha256), 'update');
      const global = await readState(store.rounds.get(runId, round)!.startSha256);
      checkUpdate(state, { base, global, plan: planOf(round) });
      store.transaction(() => {
        store.roundSites.upsert({ ...key, status: 'received' });
        store.rounds.update(runId, round, { addParametersUp: countParameters(state) });
        store.audit.append({
          actor: siteId,
          action: 'update-received',
          details: { runId, round, update: body.update.sha256 },
        });
      });
      return { ...receipt, accepted: true };
    } catch (thrown) {
      const error = toAppError(thrown);
      if (error.code === 'INTERNAL' || error.code === 'DISK_FULL') throw thrown;
      store.transaction(() => {
        store.roundSites.upsert({ ...key, status: 'rejected', reason: error.message });
        store.audit.append({
          actor: siteId,
          action: 'update-rejected',
          details: { runId, round, reason: error.message },
        });
      });
      return { ...receipt, accepted: false, reason: error.message };
    }
  }

  return {
    runId,
    manifest,
    async resume() {
      await queue
        .run(async () => {
          if (isOver()) return announceState();
          const run = requireRun();
          expected = new Set([...ports.onlineSites(), ...sitesOf(run.round).map((row) => row.siteId)]);
          await announceState();
          await consider();
        })
        .catch(fail);
    },
    sitesChanged() {
      if (isOver()) return;
      // Right after a start nobody is online yet: whoever comes while no update is in belongs to the round.
      const run = requireRun();
      if (run.status !== 'waiting' && !sitesOf(run.round).some((row) => row.status === 'received')) {
        for (const siteId of ports.onlineSites()) expected.add(siteId);
      }
      void queue.run(consider).catch(fail);
    },
    async announced(siteId, body) {
      await queue.run(async () => {
        const run = requireRun();
        const receipt = { runId, round: body.round, updateSha256: body.update.sha256 };
        const row = store.roundSites.get(runId, body.round, siteId);
        if (
          row?.updateSha256 === body.update.sha256 &&
          (row.status === 'received' || row.status === 'rejected')
        ) {
          const accepted = row.status === 'received';
          return ports.sendReceipt(siteId, {
            ...receipt,
            accepted,
            ...(accepted ? {} : { reason: row.reason ?? 'Rejected.' }),
          });
        }
        const open =
          run.status === 'running' &&
          run.round === body.round &&
          store.rounds.get(runId, body.round)?.status === 'open';
        if (!open || row?.status === 'received') {
          const reason = open
            ? 'Another update of this site was accepted already.'
            : 'The round has closed; the site takes part in the next one.';
          return ports.sendReceipt(siteId, { ...receipt, accepted: false, reason });
        }
        expected.add(siteId);
        store.roundSites.upsert({
          runId,
          round: body.round,
          siteId,
          status: 'announced',
          reason: null,
          examples: body.examples,
          meanLoss: body.meanLoss,
          updateSha256: body.update.sha256,
          sizeBytes: body.update.sizeBytes,
          step: body.steps,
          steps: body.steps,
        });
        options.onChange();
        startPull(siteId, body.round, body);
      });
    },
    async evaluated(siteId, body) {
      await queue
        .run(async () => {
          store.evaluations.upsert({
            runId,
            stateSha256: body.stateSha256,
            siteId,
            correct: body.correct,
            total: body.total,
          });
          if (waitingForEvaluation(body.stateSha256).length === 0) recordAccuracy(body.stateSha256);
          options.onChange();
          await consider();
        })
        .catch(fail);
    },
    progressed(siteId, body) {
      const run = requireRun();
      if (
        run.status !== 'running' ||
        run.round !== body.round ||
        store.rounds.get(runId, body.round)?.status !== 'open'
      )
        return;
      const row = store.roundSites.get(runId, body.round, siteId);
      if (row !== null && row.status !== 'working') return;
      expected.add(siteId);
      store.roundSites.upsert({
        runId,
        round: body.round,
        siteId,
        status: 'working',
        step: body.step,
        steps: body.steps,
        meanLoss: body.loss,
      });
    },
    async declined(siteId, round, reason) {
      await queue
        .run(async () => {
          const run = requireRun();
          const row = store.roundSites.get(runId, round, siteId);
          if (run.status === 'evaluating') expected.delete(siteId);
          else if (
            run.round === round &&
            store.rounds.get(runId, round)?.status === 'open' &&
            row?.status !== 'received'
          ) {
            store.roundSites.upsert({ runId, round, siteId, status: 'absent', reason });
          }
          await consider();
        })
        .catch(fail);
    },
    bytesReceived(bytes) {
      const run = requireRun();
      if (store.rounds.get(runId, run.round) !== null)
        store.rounds.update(runId, run.round, { addBytesUp: bytes });
    },
    bytesServed(sha256, bytes) {
      const run = requireRun();
      if (store.rounds.get(runId, run.round) === null) return;
      const row = store.adapters.get(sha256);
      const parametersDown = row === null ? 0 : Math.round((row.parameters * bytes) / row.sizeBytes);
      store.rounds.update(runId, run.round, { addBytesDown: bytes, addParametersDown: parametersDown });
    },
    offers(sha256) {
      return store.adapters.get(sha256)?.runId === runId && store.adapters.get(sha256)?.kind === 'global';
    },
    async stop() {
      await queue.run(async () => {
        if (isOver()) return;
        store.transaction(() => {
          store.runs.update(runId, { status: 'stopped', finishedAt: new Date().toISOString() });
          store.audit.append({ actor: 'coordinator', action: 'run-stopped', details: { runId } });
        });
        clearTimeout(timer);
        for (const pull of pulls.values()) pull.abort();
        await announceState();
      });
    },
    async suspend() {
      suspended = true;
      clearTimeout(timer);
      for (const pull of pulls.values()) pull.abort();
      await queue.idle();
    },
  };
}
