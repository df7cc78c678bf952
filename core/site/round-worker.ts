/**
 * One site's part in one round: fetch the global state, evaluate it on held-out pictures, freeze the cohort,
 * train, announce. Each step writes its result to the store before the next begins, so that a killed site
 * does again only what it had not finished.
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { freezeCohort, heldOutImages } from '../consent/cohort.ts';
import type { ComputeSettings } from '../engine/devices/device-choice.ts';
import type { Example, LocalTraining, Trainer, TrainProgress } from '../engine/trainer-protocol.ts';
import { countParameters } from '../lora/model-state.ts';
import { decodeModelState } from '../lora/state-file.ts';
import { AppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { mixSeed } from '../shared/random.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ImageRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { RoundPlan, RunConfig } from '../strategy/strategy.ts';
import { type BlobReference, chunkBytes } from '../transport/messages.ts';
import type { SitePorts } from './ports.ts';

export interface RoundWork {
  runId: string;
  siteId: string;
  config: RunConfig;
  /** The id under which this site holds the base model of the run. */
  baseId: string;
  round: number;
  plan: RoundPlan;
  state: BlobReference;
}

export interface RoundWorkerOptions {
  store: Store;
  blobs: BlobStore;
  trainer: Trainer;
  ports: SitePorts;
  logger: Logger;
  workFolder: string;
  /** Part of the training seed, so that a run with the same seed and site names repeats. */
  siteName: string;
  /** Where a job on a base model runs. */
  compute: (baseId: string) => ComputeSettings;
  onActivity: (
    activity: 'downloading' | 'evaluating' | 'training' | 'uploading',
    progress: TrainProgress | null,
  ) => void;
}

/** Pictures whose label is one of the run's classes, as the trainer wants them. */
function toExamples(images: readonly ImageRecord[], config: RunConfig, blobs: BlobStore): Example[] {
  return images.map((image) => ({
    file: blobs.path(image.cropSha256!),
    label: config.classes.indexOf(image.label),
  }));
}

export async function fetchState(
  options: RoundWorkerOptions,
  state: BlobReference,
  signal: AbortSignal,
): Promise<void> {
  if (options.blobs.has(state.sha256)) return;
  options.onActivity('downloading', null);
  await options.ports.fetch(state, signal);
}

/** Evaluates a global state on this site's held-out pictures and reports counts, once per state. */
export async function evaluateState(
  options: RoundWorkerOptions,
  work: Omit<RoundWork, 'plan' | 'round'>,
  signal: AbortSignal,
): Promise<void> {
  const { store, blobs, trainer, ports } = options;
  const { runId, siteId, config, baseId, state } = work;
  if (store.evaluations.ofState(runId, state.sha256).some((row) => row.siteId === siteId)) return;
  options.onActivity('evaluating', null);
  const images = heldOutImages(store, { purpose: config.purpose, at: store.now(), labels: config.classes });
  const result =
    images.length === 0
      ? { correct: 0, total: 0 }
      : await trainer.evaluate(
          {
            baseId,
            stateFile: blobs.path(state.sha256),
            examples: toExamples(images, config, blobs),
            batchSize: config.training.batchSize,
            head: config.training.head,
            arcScale: config.training.arcScale,
            ...options.compute(baseId),
          },
          { signal },
        );
  // Too few pictures would say something about single patients: nothing but "too few" leaves the site.
  const mayReport = result.total >= config.smallCell;
  store.transaction(() => {
    store.evaluations.upsert({
      runId,
      stateSha256: state.sha256,
      siteId,
      correct: result.correct,
      total: result.total,
    });
    ports.enqueue({
      type: 'evaluation',
      body: {
        runId,
        stateSha256: state.sha256,
        correct: mayReport ? result.correct : 0,
        total: mayReport ? result.total : 0,
      },
    });
  });
  ports.flush();
}

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
 * only for the very same pictures: after a withdrawal the round is trained anew, without the withdrawn ones.
 * @throws AppError NOT_ENOUGH_DATA when no consented picture fits the run
 */
export async function trainRound(
  options: RoundWorkerOptions,
  work: RoundWork,
  signal: AbortSignal,
): Promise<void> {
  const { store, blobs, trainer, ports, logger } = options;
  const { runId, siteId, config, baseId, round, plan, state } = work;
  const key = { runId, round, siteId };
  const earlier = store.roundSites.get(runId, round, siteId);
  if (earlier !== null && earlier.status !== 'working') return;

  // The cohort is frozen anew at each start: a consent that was withdrawn meanwhile does not come back.
  const cohort = store.transaction(() => {
    const frozen = freezeCohort(store, {
      runId,
      round,
      purpose: config.purpose,
      at: store.now(),
      labels: config.classes,
    });
    store.roundSites.upsert({ ...key, status: 'working', cohortSha256: frozen.sha256 });
    return frozen;
  });
  await mkdir(options.workFolder, { recursive: true });
  const outFile = join(options.workFolder, `${runId}-${round}.safetensors`);
  // A site works on one round at a time: whatever else is there is left from a round that it did not finish.
  const checkpointFile = join(options.workFolder, `${runId}-${round}.checkpoint`);
  await keepOnly(options.workFolder, cohort.images.length === 0 ? undefined : checkpointFile);
  if (cohort.images.length === 0) {
    throw new AppError('NOT_ENOUGH_DATA', 'No picture with an active consent fits the classes of this run.');
  }
  options.onActivity('training', null);
  const result = await trainer.train(
    {
      baseId,
      stateFile: blobs.path(state.sha256),
      outFile,
      checkpointFile,
      examples: toExamples(cohort.images, config, blobs),
      mode: plan.mode,
      lastK: config.lastK,
      training: trainingOf(config, plan),
      seed: mixSeed(config.seed, options.siteName, round),
      ...options.compute(baseId),
    },
    {
      signal,
      onProgress: (progress) => {
        options.onActivity('training', progress);
        ports.sendProgress({ runId, round, step: progress.step, steps: progress.steps, loss: progress.loss });
      },
    },
  );
  signal.throwIfAborted();

  const bytes = await readFile(outFile);
  const sha256 = await blobs.put(bytes);
  await rm(outFile, { force: true });
  store.transaction(() => {
    store.adapters.insert({
      sha256,
      runId,
      round,
      kind: 'update',
      siteId,
      rank: plan.rank,
      parameters: countParameters(decodeModelState(bytes, 'update')),
      sizeBytes: bytes.length,
      createdAt: new Date().toISOString(),
    });
    store.roundSites.upsert({
      ...key,
      status: 'announced',
      updateSha256: sha256,
      sizeBytes: bytes.length,
      examples: result.examples,
      meanLoss: result.meanLoss,
      step: result.steps,
      steps: result.steps,
    });
    store.audit.append({
      actor: 'site',
      action: 'update-announced',
      details: { runId, round, update: sha256, cohort: cohort.sha256, pictures: cohort.images.length },
    });
    for (const { kind, message } of result.events) {
      store.audit.append({
        actor: 'site',
        action: 'training-adjusted',
        details: { runId, round, kind, message },
      });
    }
    ports.enqueue({
      type: 'announce',
      body: {
        runId,
        round,
        update: { sha256, sizeBytes: bytes.length, chunkBytes },
        examples: result.examples,
        meanLoss: result.meanLoss,
        steps: result.steps,
      },
    });
  });
  options.onActivity('uploading', null);
  ports.flush();
  for (const event of result.events) logger.warn({ runId, round, ...event }, 'training adjusted');
  logger.info(
    { runId, round, imagesPerSecond: result.imagesPerSecond, wallMs: result.wallMs },
    'update announced',
  );
}
