/**
 * One site's training in one round: freeze the cohort, train, announce. Each step writes its result to the store before
 * the next begins, so that a killed site does again only what it had not finished.
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunConfig } from '../config/run-config.ts';
import { type FrozenCohort, freezeCohort } from '../consent/cohort.ts';
import type { LocalTraining, TrainResult } from '../engine/trainer-protocol.ts';
import { countParameters } from '../lora/model-state.ts';
import { decodeModelState } from '../lora/state-file.ts';
import { AppError } from '../shared/errors.ts';
import { mixSeed } from '../shared/random.ts';
import type { Store } from '../store/store.ts';
import type { RoundPlan } from '../strategy/strategy.ts';
import { chunkBytes } from '../transport/messages.ts';
import { leavesUnchanged, type MadeUpdate, makeUpdate, requirePlannedRanks } from './make-update.ts';
import type { RoundStart, RoundState } from './round-state.ts';
import { type RoundWork, type RoundWorkerOptions, toExamples } from './round-work.ts';

/** The run's hyper-parameters as they are in this round. */
function trainingOf({ training }: RunConfig, { proximal, learningRateFactor }: RoundPlan): LocalTraining {
  return {
    ...training,
    proximal,
    learningRate: training.learningRate * learningRateFactor,
    headLearningRate: training.headLearningRate * learningRateFactor,
    baseLearningRate: training.baseLearningRate * learningRateFactor,
  };
}

async function keepOnly(folder: string, file: string | undefined): Promise<void> {
  for (const name of await readdir(folder)) {
    const found = join(folder, name);
    if (found !== file) await rm(found, { force: true });
  }
}

/**
 * Training goes on from a checkpoint when the site was stopped in the middle of the round. The trainer takes one
 * only for the very same images: after a withdrawal the round is trained anew, without the withdrawn ones.
 * @throws AppError NOT_ENOUGH_DATA when no consented image fits the run
 */
export async function trainRound(
  options: RoundWorkerOptions,
  work: RoundWork,
  signal: AbortSignal,
): Promise<void> {
  const { store } = options;
  const { runId, siteId, round } = work;
  const earlier = store.roundSites.get(runId, round, siteId);
  if (earlier !== null && earlier.status !== 'working') return;

  const cohort = freezeRoundCohort(store, work);
  await mkdir(options.workFolder, { recursive: true });
  const outFile = join(options.workFolder, `${runId}-${round}.safetensors`);
  // A site works on one round at a time: whatever else is there is left from a round that it did not finish.
  const checkpointFile = join(options.workFolder, `${runId}-${round}.checkpoint`);
  await keepOnly(options.workFolder, cohort.images.length === 0 ? undefined : checkpointFile);
  if (cohort.images.length === 0) {
    throw new AppError('NOT_ENOUGH_DATA', 'No image with an active consent fits the classes of this run.');
  }
  const start = await options.states.compose(work, 'train');
  try {
    const files = { stateFile: start.stateFile, outFile, checkpointFile };
    const result = await runTraining(options, work, cohort, files, signal);
    signal.throwIfAborted();
    await announce(options, work, cohort, result, await finishedUpdate(options, work, start, outFile));
  } finally {
    await start.release();
    await rm(outFile, { force: true });
  }
}

/** The cohort is frozen anew at each start: a consent that was withdrawn meanwhile does not come back. */
function freezeRoundCohort(store: Store, { runId, round, siteId, config }: RoundWork): FrozenCohort {
  return store.transaction(() => {
    const frozen = freezeCohort(store, {
      runId,
      round,
      purpose: config.purpose,
      at: store.now(),
      labels: config.classes,
    });
    store.roundSites.upsert({ runId, round, siteId, status: 'working', cohortSha256: frozen.sha256 });
    return frozen;
  });
}

function runTraining(
  options: RoundWorkerOptions,
  { runId, config, baseId, round, plan }: RoundWork,
  cohort: FrozenCohort,
  files: { stateFile: string; outFile: string; checkpointFile: string },
  signal: AbortSignal,
): Promise<TrainResult> {
  options.onActivity('training', null);
  const job = {
    baseId,
    ...files,
    examples: toExamples(cohort.images, config, options.blobs),
    mode: plan.mode,
    lastK: config.lastK,
    trains: plan.trains,
    training: trainingOf(config, plan),
    seed: mixSeed(config.seed, options.siteName, round),
    ...options.compute(baseId),
  };
  return options.trainer.train(job, {
    signal,
    onProgress: (progress) => {
      options.onActivity('training', progress);
      const { step, steps, loss } = progress;
      options.ports.sendProgress({ runId, round, step, steps, loss });
    },
  });
}

interface FinishedUpdate {
  sha256: string;
  sizeBytes: number;
  /** Model values in it. */
  values: number;
  /** Hash of what the site keeps; null when it keeps nothing. */
  memory: string | null;
  clipped: MadeUpdate['clipped'];
}

/** Both files are in the blob store before the store names them. */
async function finishedUpdate(
  { blobs, noise }: RoundWorkerOptions,
  { config, plan }: RoundWork,
  start: RoundState,
  outFile: string,
): Promise<FinishedUpdate> {
  const bytes = await readFile(outFile);
  const trained = decodeModelState(bytes, 'the trained state');
  requirePlannedRanks(trained, config, plan);
  const made = leavesUnchanged({ config, plan })
    ? { bytes, values: countParameters(trained), memory: null, clipped: null }
    : makeUpdate({ config, plan, trained, noise, ...renamed(await start.read()) });
  return {
    sha256: await blobs.put(made.bytes),
    sizeBytes: made.bytes.length,
    values: made.values,
    memory: made.memory === null ? null : await blobs.put(made.memory),
    clipped: made.clipped,
  };
}

const renamed = ({ base, global, own }: RoundStart) => ({ base, start: global, own });

/** State, local parameters and message in one transaction: a site that is killed has announced all of it or nothing. */
async function announce(
  options: RoundWorkerOptions,
  { runId, siteId, round, plan }: RoundWork,
  cohort: FrozenCohort,
  result: TrainResult,
  update: FinishedUpdate,
): Promise<void> {
  const { store, blobs, ports, logger } = options;
  const { sha256, sizeBytes } = update;
  const { examples, meanLoss, steps, events } = result;
  const before = store.siteMemory.list();
  store.transaction(() => {
    store.adapters.insert({
      sha256,
      runId,
      round,
      kind: 'update',
      siteId,
      rank: plan.rank,
      parameters: update.values,
      sizeBytes,
      createdAt: new Date().toISOString(),
    });
    const status = 'announced' as const;
    const sent = { updateSha256: sha256, sizeBytes, examples, meanLoss, step: steps, steps };
    store.roundSites.upsert({ runId, round, siteId, status, ...sent });
    if (update.memory !== null) {
      store.siteMemory.put({ runId, round, sha256: update.memory });
      store.siteMemory.prune(runId, round);
    }
    auditUpdate(store, { runId, round, update, cohort, events });
    ports.enqueue({
      type: 'announce',
      body: { runId, round, update: { sha256, sizeBytes, chunkBytes }, examples, meanLoss, steps },
    });
  });
  options.onActivity('uploading', null);
  ports.flush();
  const kept = new Set(store.siteMemory.list().map((memory) => memory.sha256));
  for (const memory of before) if (!kept.has(memory.sha256)) await blobs.delete(memory.sha256);
  for (const event of events) logger.warn({ runId, round, ...event }, 'training adjusted');
  const { imagesPerSecond, wallMs } = result;
  logger.info({ runId, round, imagesPerSecond, wallMs }, 'update announced');
}

function auditUpdate(
  { audit }: Store,
  about: {
    runId: string;
    round: number;
    update: FinishedUpdate;
    cohort: FrozenCohort;
    events: TrainResult['events'];
  },
): void {
  const { runId, round, update, cohort, events } = about;
  audit.append({
    actor: 'site',
    action: 'update-announced',
    details: {
      runId,
      round,
      update: update.sha256,
      cohort: cohort.sha256,
      images: cohort.images.length,
      // The norm itself is the site's own affair; that noise was added is what an auditor asks for.
      ...(update.clipped === null ? {} : { noiseAdded: true, clipped: update.clipped.factor < 1 }),
    },
  });
  for (const { kind, message } of events) {
    audit.append({ actor: 'site', action: 'training-adjusted', details: { runId, round, kind, message } });
  }
}
