/**
 * The steps of one site's work in one round: fetch, evaluate, train, announce. Each writes its result to the store
 * before the next begins, and does nothing that the store knows of already, so that a killed site does again only what
 * it had not finished.
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type RunConfig, usesGallery } from '../config/run-config.ts';
import { type FrozenCohort, heldOutImages, recordEvaluationCohort } from '../consent/cohort.ts';
import { assertConsentsHold } from '../consent/site-clock.ts';
import type {
  Gallery,
  GalleryExample,
  LocalTraining,
  TrainProgress,
  TrainResult,
} from '../engine/trainer-protocol.ts';
import { coarseCounts } from '../evaluation/coarse-counts.ts';
import { suppressSmallCells } from '../evaluation/suppress-small-cells.ts';
import { checkOutgoing } from '../policy/outgoing.ts';
import { AppError } from '../shared/errors.ts';
import { sha256 as sha256Of } from '../shared/hash.ts';
import { mixSeed } from '../shared/random.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ImageRecord } from '../store/records.ts';
import { collectBlobs } from '../store/retention.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import type { GaussianSource } from '../strategy/privacy/gaussian-noise.ts';
import { isPrototypeRound } from '../strategy/prototype-start.ts';
import { getStrategy } from '../strategy/registry.ts';
import type { RoundPlan } from '../strategy/strategy.ts';
import { admittedSums } from './class-sums.ts';
import { withVerifiedFiles } from './damaged-files.ts';
import { earlierSums, imagesByLabel } from './earlier-sums.ts';
import { type GalleryImages, galleryImages } from './gallery-images.ts';
import { leavesUnchanged, makeUpdate } from './make-update.ts';
import { alignmentOfRun } from './older-crops.ts';
import { currentPolicy } from './policy.ts';
import type { ComposedState, RoundContext, RoundStates } from './round-state.ts';
import type { SiteOptions } from './site-node.ts';
import {
  freezeRoundCohort,
  recordAnnouncement,
  roundedCount,
  saysLoss,
  type TrainedRound,
} from './site-records.ts';

export interface RoundWorkerOptions
  extends Pick<
    SiteOptions,
    'store' | 'blobs' | 'trainer' | 'ports' | 'logger' | 'workFolder' | 'siteName' | 'compute'
  > {
  states: RoundStates;
  noise: GaussianSource;
  answerNoise: GaussianSource;
}

/** What the caller gives to a step. */
export interface StepControl {
  signal: AbortSignal;
  onActivity(activity: 'downloading' | 'evaluating' | 'training', progress: TrainProgress | null): void;
}

/** One that is missing is found by the job, like one that is damaged. */
function cropFile(blobs: BlobStore, sha256: string): string {
  if (!blobs.has(sha256)) throw new AppError('BLOB_CORRUPT', 'A face crop is missing on this disk.');
  return blobs.path(sha256);
}

/** Images as the trainer wants them. */
function toExamples(
  images: readonly ImageRecord[],
  blobs: BlobStore,
  classOf: (label: string) => number,
): GalleryExample[] {
  return images.map((image) => ({
    file: cropFile(blobs, image.cropSha256!),
    sha256: image.cropSha256!,
    label: classOf(image.label),
    subject: image.subjectId,
  }));
}

const classesOf =
  ({ classes }: RunConfig) =>
  (label: string) =>
    classes.indexOf(label);

/**
 * Evaluates a global state, with the site's local parameters in it, on held-out images and reports counts, once per state.
 * Counts of somebody whose consent ended meanwhile do not leave: it is counted anew, without them.
 * @param isLast the run is over but for this evaluation
 */
export async function evaluateState(
  options: RoundWorkerOptions,
  context: RoundContext,
  isLast: boolean,
  { signal, onActivity }: StepControl,
): Promise<void> {
  const { store, blobs, trainer, ports } = options;
  const { runId, siteId, config, baseId, round, state } = context;
  if (store.evaluations.ofState(runId, state.sha256).some((row) => row.siteId === siteId)) return;
  onActivity('evaluating', null);
  const { configureEvaluate } = getStrategy(config.strategy);
  const { batchSize, head, arcScale, smallCell } = configureEvaluate(config, round);
  const answers = { 'each-round': true, end: isLast, none: false }[currentPolicy(store).policy.evaluations];
  if (answers) assertConsentsHold(store);
  const { purpose, classes } = config;
  const at = store.clock.latest();
  const alignment = alignmentOfRun(store, runId);
  const asked = answers ? heldOutImages(store, { purpose, at, labels: classes, alignment }) : [];
  const among =
    asked.length > 0 && usesGallery(config, round, isLast)
      ? galleryImages(store, { purpose, classes, at, alignment })
      : null;
  // Whoever is in the gallery is behind the counts, too.
  const images = [...new Map([...asked, ...imagesIn(among)].map((image) => [image.id, image])).values()];
  const evaluate = async () => {
    const composed = await options.states.compose(context, isLast ? 'evaluate-last' : 'evaluate');
    const { stateFile, stateSha256 } = composed;
    const run = async () => {
      const examples = toExamples(asked, blobs, classesOf(config));
      const gallery = among === null ? {} : { gallery: galleryFor(among, blobs) };
      const flip = config.flipAveraging === 'on';
      const settings = { batchSize, head, arcScale, flip, ...gallery, ...options.compute(baseId) };
      return trainer.evaluate({ baseId, stateFile, stateSha256, examples, ...settings }, { signal });
    };
    return withVerifiedFiles(options, { stateSha256: state.sha256, images }, run).finally(composed.release);
  };
  const result = asked.length === 0 ? { correct: 0, total: 0, counts: null } : await evaluate();
  signal.throwIfAborted();
  // What would say something about single patients does not leave the site: of too few images nothing but that.
  const shown =
    result.counts &&
    (isLast
      ? suppressSmallCells(result.counts, smallCell)
      : coarseCounts(result.counts, smallCell, options.answerNoise));
  const { correct, total, counts } = result;
  const isSent = store.transaction(() => {
    if (!recordEvaluationCohort(store, { runId, stateSha256: state.sha256, purpose }, images)) return false;
    store.evaluations.upsert({ runId, stateSha256: state.sha256, siteId, correct, total, counts });
    ports.enqueue({
      type: 'evaluation',
      body: {
        runId,
        stateSha256: state.sha256,
        correct: shown?.correct ?? 0,
        total: shown?.total ?? 0,
        ...(shown && { counts: shown }),
      },
    });
    return true;
  });
  if (!isSent) return evaluateState(options, context, isLast, { signal, onActivity });
  ports.flush();
}

const imagesIn = (among: GalleryImages | null) =>
  among === null ? [] : [...among.images, ...among.rare.map(({ image }) => image)];

function galleryFor({ images, rare, classOf }: GalleryImages, blobs: BlobStore): Gallery {
  const queries = toExamples(
    rare.map(({ image }) => image),
    blobs,
    classOf,
  );
  return {
    images: toExamples(images, blobs, classOf),
    rare: queries.map((query, index) => ({ ...query, leavesOut: rare[index]!.leavesOut })),
  };
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

/** In hundredths: the number of steps would tell how many images there are. */
function saidProgress({ step, steps, loss }: TrainProgress, config: RunConfig, plan: RoundPlan) {
  const said = saysLoss(config) && !isPrototypeRound(plan) ? Number(loss.toPrecision(2)) : null;
  return { step: Math.floor((100 * step) / steps), steps: 100, loss: said };
}

async function keepOnly(folder: string, file: string | undefined): Promise<void> {
  for (const name of await readdir(folder)) {
    const found = join(folder, name);
    if (found !== file) await rm(found, { force: true });
  }
}

/** The sums are divided by the number of images that the update will say, in a sum or not. */
function sumsOf(
  store: ReadOnlyStore,
  { images }: FrozenCohort,
  { examples }: { examples: readonly GalleryExample[] },
  { baseSha256, smallCell, training }: RunConfig,
) {
  const admitted = admittedSums(imagesByLabel(images), earlierSums(store, baseSha256), smallCell);
  const count = new Set(examples.map(({ file }) => file)).size;
  return {
    examples: examples.map((example, index) => {
      const { id, label } = images[index]!;
      return { ...example, isSummed: admitted.get(label)?.has(id) ?? false };
    }),
    ...{ smallCell, divisor: roundedCount(count, smallCell), batchSize: training.batchSize },
  };
}

/** A checkpoint of images that may not train any more goes at once. */
async function admittedCohort(options: RoundWorkerOptions, context: RoundContext): Promise<FrozenCohort> {
  try {
    return freezeRoundCohort(options.store, context);
  } catch (refused) {
    await mkdir(options.workFolder, { recursive: true });
    await keepOnly(options.workFolder, undefined);
    throw refused;
  }
}

/**
 * Freezes the cohort and trains. Training goes on from a checkpoint when the site was stopped in the middle of the round. The
 * trainer takes one only for the very same images: after a withdrawal the round is trained anew, without the withdrawn ones.
 * @param onFrozen hears which cohort it is
 * @throws AppError POLICY_REFUSED | NOT_ENOUGH_DATA when the site's policy does not allow it; CONTRACT_BROKEN when what
 *   came out is not what the contract lists
 */
export async function trainRound(
  options: RoundWorkerOptions,
  context: RoundContext,
  { signal, onActivity }: StepControl,
  onFrozen: (cohortId: number) => void,
): Promise<TrainedRound> {
  const { runId, round } = context;
  const cohort = await admittedCohort(options, context);
  onFrozen(cohort.cohortId);
  await mkdir(options.workFolder, { recursive: true });
  const outFile = join(options.workFolder, `${runId}-${round}.safetensors`);
  // A site works on one round at a time: whatever else is there is left from a round that it did not finish.
  const checkpointFile = join(options.workFolder, `${runId}-${round}.checkpoint`);
  await keepOnly(options.workFolder, checkpointFile);
  const start = await options.states.compose(context, 'train');
  try {
    const { baseId, config, plan, state } = context;
    onActivity('training', null);
    const jobOf = () => ({
      baseId,
      stateFile: start.stateFile,
      stateSha256: start.stateSha256,
      outFile,
      checkpointFile,
      examples: toExamples(cohort.images, options.blobs, classesOf(config)),
      mode: plan.mode,
      lastK: config.lastK,
      trains: plan.trains,
      training: trainingOf(config, plan),
      seed: mixSeed(config.seed, options.siteName, round),
      ...options.compute(baseId),
    });
    const jobOptions = {
      signal,
      onProgress(progress: TrainProgress) {
        onActivity('training', progress);
        options.ports.sendProgress({ runId, round, ...saidProgress(progress, config, plan) });
      },
    };
    const files = { stateSha256: state.sha256, images: cohort.images };
    const result = await withVerifiedFiles(options, files, async () => {
      const job = jobOf();
      return isPrototypeRound(plan)
        ? options.trainer.prototypes({ ...job, ...sumsOf(options.store, cohort, job, config) }, jobOptions)
        : options.trainer.train(job, jobOptions);
    });
    signal.throwIfAborted();
    const held = options.blobs.hold();
    try {
      return {
        cohort,
        result,
        held,
        update: await finishedUpdate(options, context, start, { outFile, result }),
      };
    } catch (thrown) {
      held[Symbol.dispose]();
      throw thrown;
    }
  } finally {
    await start.release();
    await rm(outFile, { force: true });
  }
}

/** Both files are in the blob store before the store names them. */
async function finishedUpdate(
  { blobs, noise, states }: RoundWorkerOptions,
  context: RoundContext,
  start: ComposedState,
  { outFile, result }: { outFile: string; result: TrainResult },
): Promise<TrainedRound['update']> {
  const { config, plan, round, state } = context;
  const { leaves } = await states.termsOf(context);
  const file = await readFile(outFile);
  // The round is trained again.
  if (result.outSha256 !== undefined && sha256Of(file) !== result.outSha256)
    throw new AppError('BLOB_CORRUPT', 'What was trained was damaged on this disk; it is trained again.');
  const made = await makeUpdate({ config, plan, file, noise, start: () => start.read() });
  const sha256 = await blobs.put(made.bytes);
  // What is on the disk is what will leave.
  checkOutgoing(await blobs.read(sha256), leaves.ofRound(round), config.wire.up);
  return {
    sha256,
    sizeBytes: made.bytes.length,
    values: made.values,
    start: leavesUnchanged({ config, plan }) ? null : state.sha256,
    memory: made.memory === null ? null : await blobs.put(made.memory),
    clipped: made.clipped,
  };
}

/** @returns false when it must not be announced: somebody whose images are in it has withdrawn */
export async function announceUpdate(
  { store, blobs, ports, logger }: RoundWorkerOptions,
  context: RoundContext,
  trained: TrainedRound,
): Promise<boolean> {
  const { runId, round } = context;
  const before = store.siteMemory.list();
  if (!recordAnnouncement(store, ports, context, trained)) return false;
  ports.flush();
  await collectBlobs(
    store,
    blobs,
    before.map((memory) => memory.sha256),
  );
  const { events, imagesPerSecond, wallMs } = trained.result;
  for (const event of events) logger.warn({ runId, round, ...event }, 'training adjusted');
  logger.info({ runId, round, imagesPerSecond, wallMs }, 'update announced');
  return true;
}
