/** One run of an experiment, from the first round to the line of its results. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunConfig } from '../config/run-config.ts';
import type { SitePolicy } from '../config/site-policy.ts';
import { untrainedGallery } from '../coordinator/untrained.ts';
import type { ComputeSettings } from '../engine/devices/device-choice.ts';
import type { MatrixProducts } from '../linalg/matrix-products.ts';
import type { Catalogue } from '../models/catalogue.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { pick } from '../shared/pick.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { collectRun, type Expiry } from '../store/retention.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import type { PlannedRun } from '../strategy/plan.ts';
import { collectRounds, describeSites, finalOf, totalsOf } from './collect.ts';
import { openFederation, type SimulatedFederation } from './federation.ts';
import type { FinishedRun, Partition, RoundRecord, RunLine } from './record.ts';
import { prepareRunFolder, prepareSiteStores } from './site-stores.ts';
import type { SiteImages } from './spread.ts';
import type { TrainerPool } from './trainer-pool.ts';

/** A run with all that decides its result. */
export interface SimulatedRun {
  /** SHA-256 of all that decides the result. */
  id: string;
  experiment: string;
  label: string;
  seed: number;
  partition: Partition;
  evaluateOn: 'test' | 'validation';
  config: RunConfig;
  /** Of every site. */
  policy: SitePolicy;
  dataSha256: string;
  sites: readonly SiteImages[];
  planned: PlannedRun['totals'];
}

export interface SimulationContext {
  /** Where runs in progress and prepared sites are kept. */
  workFolder: string;
  crops: BlobStore;
  catalogue: Catalogue;
  pool: TrainerPool;
  compute: ComputeSettings;
  products: MatrixProducts;
  versions: FinishedRun['versions'];
  machine: FinishedRun['machine'];
  logger: Logger;
}

export interface RunHooks {
  signal: AbortSignal;
  /** After each round, once its accuracy is known; rounds of an earlier session, too. */
  onRound(round: RoundRecord): void;
}

const runFolderOf = (workFolder: string, id: string): string => join(workFolder, 'runs', id);

/**
 * Runs to the end, or goes on where an interrupted call stopped. The run's folder stays until the caller has written
 * the line; see {@link forgetRun}.
 * @returns the finished run, or the failed one with its error
 * @throws AppError CANCELLED when the signal was aborted: the folder is left to go on from
 */
export async function simulateRun(
  run: SimulatedRun,
  context: SimulationContext,
  hooks: RunHooks,
): Promise<RunLine> {
  const startedAt = new Date().toISOString();
  const common = () => ({
    formatVersion: 1 as const,
    ...pick(run, 'id', 'experiment', 'label', 'seed'),
    sites: run.sites.length,
    ...pick(run, 'partition', 'evaluateOn', 'config', 'policy', 'dataSha256'),
    siteData: describeSites(run.sites),
    versions: context.versions,
    machine: context.machine,
    startedAt,
  });
  let rounds: RoundRecord[] = [];
  try {
    const result = await runToEnd(run, context, {
      ...hooks,
      onRound(round) {
        rounds.push(round);
        hooks.onRound(round);
      },
    });
    rounds = result.rounds;
    return { ...common(), status: 'finished', ...result };
  } catch (thrown) {
    if (hooks.signal.aborted) throw cancelled();
    context.logger.error({ error: thrown, run: run.id }, 'simulated run failed');
    return { ...common(), status: 'failed', error: toAppError(thrown).toReport(), rounds };
  }
}

/** Deletes what a run kept on the disk. */
export async function forgetRun(workFolder: string, id: string): Promise<void> {
  await rm(runFolderOf(workFolder, id), { recursive: true, force: true });
}

interface RunResult extends Pick<FinishedRun, 'rounds' | 'final' | 'untrained' | 'totals'> {}

async function runToEnd(run: SimulatedRun, context: SimulationContext, hooks: RunHooks): Promise<RunResult> {
  const startMs = performance.now();
  const folder = runFolderOf(context.workFolder, run.id);
  const { signal } = hooks;
  if (signal.aborted) throw cancelled();
  const template = await prepareSiteStores(join(context.workFolder, 'sites'), run.sites, run.config.purpose);
  await prepareRunFolder(
    folder,
    template,
    run.sites.map(({ siteId }) => siteId),
  );
  const ended = Promise.withResolvers<void>();
  // Whoever waits comes later; until then a failure must not count as one that nobody handles.
  ended.promise.catch(() => {});
  const abort = () => ended.reject(cancelled());
  signal.addEventListener('abort', abort, { once: true });
  const trainer = context.pool.forRun();
  let watch: (() => void) | null = null;
  let federation: SimulatedFederation | null = null;
  try {
    federation = await openFederation({
      folder,
      ...pick(run, 'config', 'policy', 'sites'),
      ...pick(context, 'crops', 'catalogue', 'compute', 'products', 'logger'),
      trainer,
      version: context.versions.anneal,
      onChange: () => watch?.(),
      onSiteProblem: (_site, problem) => ended.reject(problem),
    });
    watch = watchRun(federation, hooks, ended);
    const runId = await federation.start();
    watch();
    await ended.promise;
    const rounds = collectRounds(federation.store, runId);
    const wallMs = performance.now() - startMs;
    const last = federation.store.rounds.listOfRun(runId).at(-1);
    return {
      rounds,
      final: finalOf(rounds, last!.resultSha256!),
      ...untrainedOf(federation.store, runId, run.config),
      totals: totalsOf(rounds, run.planned, { wallMs, computeMs: trainer.computeMs }),
    };
  } finally {
    signal.removeEventListener('abort', abort);
    await federation?.close();
  }
}

function untrainedOf(store: ReadOnlyStore, runId: string, config: RunConfig): Pick<FinishedRun, 'untrained'> {
  const untrained = untrainedGallery(store, runId, config);
  return untrained === null ? {} : { untrained };
}

/** Tells of rounds, clears away what no round needs any more, and sees the end. */
function watchRun(
  federation: SimulatedFederation,
  hooks: RunHooks,
  ended: { resolve(): void; reject(error: unknown): void },
): () => void {
  const { store } = federation;
  let reported = 0;
  let swept = 0;
  return () => {
    const [run] = store.runs.list();
    if (run === undefined) return;
    const isOver = run.status === 'finished';
    const rounds = collectRounds(store, run.id);
    // A round's accuracy is known when the sites have evaluated its result, in the next one.
    const known = isOver ? rounds.length : rounds.length - 1;
    for (; reported < known; reported++) hooks.onRound(rounds[reported]!);
    if (run.round > swept) {
      // The state that the kept rounds started from is looked at again when they are old themselves.
      const fromRound = swept - 2;
      swept = run.round;
      void sweep(federation, fromRound, { runId: run.id, beforeRound: swept - 1 }).catch(ended.reject);
    }
    if (isOver) ended.resolve();
    if (run.status === 'failed' || run.status === 'stopped') {
      const stopped = new AppError('CANCELLED', 'The run was stopped.');
      ended.reject(run.failure === null ? stopped : AppError.fromReport(run.failure));
    }
  };
}

/**
 * States and updates of rounds before the last one: a simulation asks for none of them again, and with whole networks
 * they would fill the disk.
 */
async function sweep(
  { store, blobs, sites }: SimulatedFederation,
  fromRound: number,
  expired: Expiry,
): Promise<void> {
  for (const holder of [{ store, blobs }, ...sites])
    await collectRun(holder.store, holder.blobs, expired.runId, fromRound, expired);
}

function cancelled(): AppError {
  return new AppError('CANCELLED', 'The simulation was stopped.', {
    action: 'Run the same command again to continue where it stopped.',
  });
}
