/** How well a state does on images that it was not trained on. */
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { computeWithFallback, planCompute } from './compute-plan.ts';
import { createEvaluationTally } from './evaluation-tally.ts';
import type { ComputePlan } from './fallback.ts';
import { forwardPass } from './forward-pass.ts';
import { createGalleryLookup } from './gallery-lookup.ts';
import { type JobContext, openJob } from './job-context.ts';
import type { EvaluateJob, EvaluateResult, TrainEvent } from './trainer-protocol.ts';
import { buildEvaluationGraph, type GraphShape, graphShape } from './training-graph.ts';
import { arcOf } from './training-parameters.ts';

/**
 * An arcface head is judged by its cosines, without margin. With a gallery each image's embedding is looked up there, too.
 * With `flip` logits are averaged with those of the mirror image, and embeddings at length 1.
 * @throws AppError what {@link openJob} throws, TRAINING_FAILED when the runtime fails
 */
export async function runEvaluateJob(job: EvaluateJob, context: JobContext): Promise<EvaluateResult> {
  const { base, state } = await openJob(job, context);
  const arc = arcOf(job, 0);
  const shapeFor = (batch: number) => graphShape(state, { batch, arc });
  const planOf = (wishes: Parameters<typeof planCompute>[0]) =>
    planCompute(wishes, job.batchSize, (batch) => {
      const shape = shapeFor(batch);
      const { key, build } = graphFor(job, base, shape);
      return context.executables.facts(key, build).peakBytes;
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

function graphFor({ gallery }: EvaluateJob, base: BaseModel, shape: GraphShape) {
  const withFeatures = gallery !== undefined;
  const key = { graph: 'evaluate', base: base.sha256, ...shape, ...(withFeatures && { withFeatures }) };
  return { key, build: () => buildEvaluationGraph(base, shape, withFeatures) };
}

function meanOf(one: Float32Array, other?: Float32Array): Float32Array {
  return other === undefined ? one : one.map((value, index) => (value + other[index]!) / 2);
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
  const { examples, gallery } = job;
  const { key, build } = graphFor(job, base, shape);
  const compute = { engine: job.engine, device, threads: job.threads };
  const { executable } = await context.executables.get(key, build, compute);
  const classes = state.classes.length;
  const tally = createEvaluationTally(classes);
  const lookup = gallery === undefined ? null : createGalleryLookup(examples, gallery);
  // What the gallery needs beside the examples themselves.
  const others = lookup?.others ?? [];
  const all = [...examples, ...others];
  const startMs = performance.now();
  const steps = Math.ceil(all.length / microBatch);
  let seen = 0;
  const wanted = ['logits', ...(lookup === null ? [] : ['features'])];
  const mirrored = job.flip ? wanted : [];
  const rows = forwardPass({ executable, context, base, state, mirrored }, all, microBatch);
  for await (const { index, ...row } of rows) {
    const both = (name: string, size: number) => [row.outputs(name, size), row.mirrored(name, size)] as const;
    if (index < examples.length) tally.count(examples[index]!.label, meanOf(...both('logits', classes)));
    lookup?.add(all[index]!.file, ...both('features', base.embeddingSize));
    seen += 1;
    if (seen % microBatch !== 0 && seen < all.length) continue;
    context.onProgress({
      step: Math.ceil(seen / microBatch),
      steps,
      epoch: seen / all.length,
      loss: tally.lossSum / Math.min(seen, examples.length),
      imagesPerSecond: (1000 * seen) / (performance.now() - startMs),
    });
  }
  const ranks = await lookup?.counts(classes, () => context.pause());
  const counts = { ...tally.counts(), ...(ranks && { gallery: ranks }) };
  return {
    correct: counts.correct,
    total: examples.length,
    meanLoss: tally.lossSum / examples.length,
    counts,
  };
}
