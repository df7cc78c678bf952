/** One site's local training: from a starting state and its images to a trained state file. */
import { encodeModelState } from '../lora/state-file.ts';
import { AppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import { countSteps } from './batches.ts';
import {
  type CheckpointSubject,
  deleteCheckpoint,
  jobIdentity,
  type RunPosition,
  restoreCheckpoint,
  writeCheckpoint,
} from './checkpoint.ts';
import { type ComputeWishes, computeWithFallback, planCompute, planTraining } from './compute-plan.ts';
import type { ComputePlan } from './fallback.ts';
import { type JobContext, openJob } from './job-context.ts';
import type { TrainEvent, TrainJob, TrainResult } from './trainer-protocol.ts';
import { withParameters } from './training-graph.ts';
import { collectParameters, createJobOptimiser } from './training-parameters.ts';
import { prepareProgram, stepFacts, type TrainingSetup, usesFeatures } from './training-program.ts';
import { runSteps } from './training-run.ts';
import { writeResult } from './write-result.ts';

/**
 * Trains and writes `job.outFile` when complete; a failed or cancelled job writes nothing there. With a
 * checkpoint file the run keeps its state in it, and the same job given again goes on from there to the result
 * that it would have had.
 * @throws AppError TRAINING_FAILED when the loss or a parameter stops being a finite number or nothing is left
 *   to fall back to, and what {@link openJob} throws
 */
export async function runTrainJob(job: TrainJob, context: JobContext): Promise<TrainResult> {
  const startMs = performance.now();
  const { base, state, stateSha256 } = await openJob(job, context);
  const steps = countSteps({ examples: job.examples.length, ...job.training });
  if (steps === 0)
    throw new AppError('CONFIG_INVALID', 'The training has no steps: raise the number of epochs.');
  const parameters = collectParameters(job, base, state);
  const setup: TrainingSetup = { job, context, base, state, parameters };
  const optimiser = createJobOptimiser(job.training, parameters, steps);
  const trained = parameters.trainables.map((name) => [name, parameters.all.get(name)!] as const);
  const identity = jobIdentity(job, base.sha256, stateSha256);
  const subject = { identity, wishes: job, parameters: new Map(trained), optimiser };
  const { position, plan } = await startPosition(setup, subject);

  const run = await train(setup, subject, { steps, position, plan });

  await context.pause();
  const result = withParameters(state, parameters.all, parameters.trainedWeights);
  const bytes = encodeModelState(result);
  await writeResult(job.outFile, bytes);
  if (job.checkpointFile !== undefined) await deleteCheckpoint(job.checkpointFile);
  return {
    ...run,
    meanLoss: position.lossSum / position.images,
    steps,
    examples: new Set(job.examples.map((example) => example.file)).size,
    wallMs: performance.now() - startMs,
    events: position.events,
    outSha256: sha256(bytes),
  };
}

interface RunStart {
  position: RunPosition;
  plan: ComputePlan;
}

/** From the job's checkpoint if there is one, else from the beginning. */
async function startPosition(setup: TrainingSetup, subject: CheckpointSubject): Promise<RunStart> {
  const { job } = setup;
  const restored =
    job.checkpointFile === undefined ? undefined : await restoreCheckpoint(job.checkpointFile, subject);
  if (restored === undefined || restored === 'damaged') {
    const message = 'The checkpoint on this disk was damaged: the training starts from the beginning.';
    const events: TrainEvent[] =
      restored === 'damaged' ? [{ kind: 'checkpoint-damaged', message, from: '', to: '' }] : [];
    return { position: { step: 0, images: 0, lossSum: 0, events }, plan: planFor(setup, job) };
  }
  const plan = restored.plan ?? planFor(setup, job);
  const { position } = restored;
  const message = `The training was interrupted and continues after step ${position.step}.`;
  position.events.push({ kind: 'resumed', message, from: String(position.step), to: '' });
  return { position, plan };
}

function planFor(setup: TrainingSetup, wishes: ComputeWishes): ComputePlan {
  const { engine, training } = setup.job;
  const factsOf = (batch: number) => stepFacts(setup, batch);
  // A head alone is one small product: it has no lanes.
  return usesFeatures(setup.job)
    ? planCompute(wishes, training.batchSize, (batch) => factsOf(batch).peakBytes)
    : planTraining({ ...wishes, engine }, training.batchSize, factsOf);
}

async function train(
  setup: TrainingSetup,
  subject: CheckpointSubject,
  { steps, position, plan: start }: RunStart & { steps: number },
): Promise<{ imagesPerSecond: number }> {
  const { job, context, parameters } = setup;
  const startMs = performance.now();
  const startImages = position.images;
  const speed = () => (1000 * (position.images - startImages)) / (performance.now() - startMs);
  const keep = createKeeper(job, subject, position);
  await computeWithFallback(
    start,
    (device) => planFor(setup, { device, threads: job.threads, microBatch: job.microBatch }),
    context,
    (event) => position.events.push(event),
    async (plan) => {
      const program = await prepareProgram(setup, plan);
      await runSteps(program, {
        trainables: parameters.trainables,
        optimiser: subject.optimiser,
        steps,
        position,
        pause: () => context.pause(),
        async onStep(loss) {
          const { step, images, events } = position;
          const epoch = images / job.examples.length;
          context.onProgress({
            step,
            steps,
            epoch,
            loss,
            imagesPerSecond: speed(),
            ...(events.length === 0 ? {} : { events: [...events] }),
          });
          if (step < steps) await keep(plan);
        },
      });
    },
  );
  return { imagesPerSecond: speed() };
}

/** Writing checkpoints takes at most about this share of the time. */
const keepingShare = 0.05;

/** Writes a checkpoint when the time for one has come; one that cannot be written is reported once. */
function createKeeper(
  { checkpointFile, checkpointSeconds }: TrainJob,
  subject: CheckpointSubject,
  position: RunPosition,
): (plan: ComputePlan) => Promise<void> {
  let dueMs = performance.now() + 1000 * checkpointSeconds;
  let reported = false;
  return async (plan) => {
    const startMs = performance.now();
    if (checkpointFile === undefined || startMs < dueMs) return;
    try {
      await writeCheckpoint(checkpointFile, subject, position, plan);
    } catch {
      if (!reported) {
        const message =
          'No checkpoint could be written: if the training is interrupted, it starts from the beginning.';
        position.events.push({ kind: 'checkpoint-failed', message, from: '', to: '' });
      }
      reported = true;
    }
    const endMs = performance.now();
    const restMs = checkpointSeconds === 0 ? 0 : (endMs - startMs) / keepingShare;
    dueMs = endMs + Math.max(1000 * checkpointSeconds, restMs);
  };
}
