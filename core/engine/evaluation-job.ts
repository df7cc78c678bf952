/** How well a state does on images that it was not trained on. */
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { sequentialBatches } from './batches.ts';
import { computeWithFallback, planCompute } from './compute-plan.ts';
import { cropShapeOf } from './crops.ts';
import { createEvaluationTally } from './evaluation-tally.ts';
import type { ComputePlan } from './fallback.ts';
import { type JobContext, openJob } from './job-context.ts';
import { readAhead } from './read-ahead.ts';
import type { EvaluateJob, EvaluateResult, TrainEvent } from './trainer-protocol.ts';
import { buildEvaluationGraph, graphShape, stateParameters } from './training-graph.ts';
import { arcOf } from './training-parameters.ts';

/**
 * An arcface head is judged by its cosines, without margin.
 * @throws AppError what {@link openJob} throws, TRAINING_FAILED when the runtime fails
 */
export async function runEvaluateJob(job: EvaluateJob, context: JobContext): Promise<EvaluateResult> {
  const { base, state } = await openJob(job, context);
  const arc = arcOf(job, 0);
  const shapeFor = (batch: number) => graphShape(state, { batch, arc });
  const planOf = (wishes: Parameters<typeof planCompute>[0]) =>
    planCompute(wishes, job.batchSize, (batch) => {
      const shape = shapeFor(batch);
      const key = { graph: 'evaluate', base: base.sha256, ...shape };
      return context.executables.facts(key, () => buildEvaluationGraph(base, shape)).peakBytes;
    });
  const events: TrainEvent[] = [];
  const result = await computeWithFallback(
    planOf(job),
    (device) => planOf({ device, threads: job.threads, microBatch: job.microBatch }),
    context,
    (event) => events.push(event),
    (plan) => evaluate({ job, context, base, state, shape: shapeFor(plan.microBatch) }, plan),
  );
  return { ...result, ...(events.length === 0 ? {} : { events }) };
}

interface Evaluation {
  job: EvaluateJob;
  context: JobContext;
  base: BaseModel;
  state: ModelState;
  shape: ReturnType<typeof graphShape>;
}

async function evaluate(
  { job, context, base, state, shape }: Evaluation,
  { device, microBatch }: ComputePlan,
): Promise<EvaluateResult> {
  const { executable } = await context.executables.get(
    { graph: 'evaluate', base: base.sha256, ...shape },
    () => buildEvaluationGraph(base, shape),
    { engine: job.engine, device, threads: job.threads },
  );
  const parameters = Object.fromEntries(stateParameters(state));
  const classes = state.classes.length;
  const tally = createEvaluationTally(classes);
  const startMs = performance.now();
  const total = job.examples.length;
  const steps = Math.ceil(total / microBatch);
  const batches = readAhead(
    context.pixels,
    sequentialBatches(total, microBatch),
    (draws) => draws.map(({ index }) => ({ ...job.examples[index]!, augmentation: undefined })),
    { crop: cropShapeOf(base), slots: microBatch },
  );
  let seen = 0;
  for await (const { batch: draws, pixels } of batches) {
    await context.pause();
    const outputs = await executable.run({ ...parameters, pixels });
    const logits = (outputs['logits'] as FloatTensor).data;
    for (const [slot, { index }] of draws.entries())
      tally.count(job.examples[index]!.label, logits.subarray(slot * classes, (slot + 1) * classes));
    seen += draws.length;
    context.onProgress({
      step: Math.ceil(seen / microBatch),
      steps,
      epoch: seen / total,
      loss: tally.lossSum / seen,
      imagesPerSecond: (1000 * seen) / (performance.now() - startMs),
    });
  }
  const counts = tally.counts();
  return { correct: counts.correct, total, meanLoss: tally.lossSum / total, counts };
}
