/** The sums of embeddings of which a run's head is made, in the form of a trained state: core/strategy/prototypes.ts. */
import { encodeModelState } from '../lora/state-file.ts';
import { AppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import { floatTensor } from '../shared/tensor.ts';
import { computeWithFallback, planCompute } from './compute-plan.ts';
import { forwardPass } from './forward-pass.ts';
import { type JobContext, openJob } from './job-context.ts';
import { prototypeSums } from './prototype-sums.ts';
import type { PrototypeJob, TrainEvent, TrainResult } from './trainer-protocol.ts';
import { buildFeatureGraph, graphShape } from './training-graph.ts';
import { writeResult } from './write-result.ts';

/**
 * Writes `job.outFile` when complete: the starting state with the sums as `head.weight`, and a bias of zeros.
 * @throws AppError what {@link openJob} throws; TRAINING_FAILED when an embedding is not finite
 */
export async function runPrototypeJob(job: PrototypeJob, context: JobContext): Promise<TrainResult> {
  const startMs = performance.now();
  const { base, state } = await openJob(job, context);
  const { examples } = job;
  const sums = prototypeSums({ classes: state.classes.length, size: base.embeddingSize });
  const shapeFor = (batch: number) => graphShape(state, { batch });
  const keyOf = (batch: number) => ({ graph: 'features', base: base.sha256, ...shapeFor(batch) });
  const build = (batch: number) => buildFeatureGraph(base, shapeFor(batch));
  const planOf = (wishes: Parameters<typeof planCompute>[0]) =>
    planCompute(
      wishes,
      job.batchSize,
      (batch) => context.executables.facts(keyOf(batch), () => build(batch)).peakBytes,
    );
  const events: TrainEvent[] = [];
  let steps = 0;
  await computeWithFallback(
    planOf(job),
    (device) => planOf({ device, threads: job.threads, microBatch: job.microBatch }),
    context,
    (event) => events.push(event),
    async ({ device, microBatch }) => {
      const compute = { engine: job.engine, device, threads: job.threads };
      const { executable } = await context.executables.get(
        keyOf(microBatch),
        () => build(microBatch),
        compute,
      );
      sums.clear();
      steps = Math.ceil(examples.length / microBatch);
      for await (const { index, outputs } of forwardPass(
        { executable, context, base, state },
        examples,
        microBatch,
      )) {
        const { label, subject, isSummed } = examples[index]!;
        if (isSummed && !sums.add(outputs('features', base.embeddingSize), label, subject))
          throw new AppError('TRAINING_FAILED', 'The network gives no usable embedding for an image.');
        if ((index + 1) % microBatch !== 0 && index + 1 < examples.length) continue;
        const [step, epoch] = [Math.ceil((index + 1) / microBatch), (index + 1) / examples.length];
        const imagesPerSecond = (1000 * (index + 1)) / (performance.now() - startMs);
        context.onProgress({ step, steps, epoch, loss: 0, imagesPerSecond });
      }
    },
  );
  const { classes } = state;
  const weight = floatTensor([classes.length, base.embeddingSize], sums.rows(job));
  const head = new Map([
    ['weight', weight],
    ['bias', floatTensor([classes.length])],
  ]);
  const bytes = encodeModelState({ ...state, head });
  await writeResult(job.outFile, bytes);
  const wallMs = performance.now() - startMs;
  return {
    meanLoss: 0,
    steps,
    examples: new Set(examples.map(({ file }) => file)).size,
    imagesPerSecond: (1000 * examples.length) / wallMs,
    wallMs,
    events,
    outSha256: sha256(bytes),
  };
}
