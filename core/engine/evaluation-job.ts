/** How well a state does on pictures that it was not trained on. */
import type { FloatTensor } from '../shared/tensor.ts';
import { createBatchFiller, sequentialBatches } from './batches.ts';
import { type JobContext, openJob } from './job-context.ts';
import type { EvaluateJob, EvaluateResult } from './trainer-protocol.ts';
import { buildEvaluationGraph, graphShape, stateParameters } from './training-graph.ts';

/** @throws AppError what {@link openJob} throws, TRAINING_FAILED when the runtime fails */
export async function runEvaluateJob(job: EvaluateJob, context: JobContext): Promise<EvaluateResult> {
  const { base, state } = await openJob(job);
  const shape = graphShape(state, { batch: job.batchSize });
  const executable = await context.executables.get(
    { graph: 'evaluate', base: base.sha256, ...shape },
    () => buildEvaluationGraph(base, shape),
    { device: job.device, threads: job.threads },
  );
  const parameters = Object.fromEntries(stateParameters(state));
  const filler = createBatchFiller(job.batchSize, base.inputSize);
  const perClass = state.classes.map(() => ({ correct: 0, total: 0 }));
  const startMs = performance.now();
  const total = job.examples.length;
  const steps = Math.ceil(total / job.batchSize);
  let lossSum = 0;
  let seen = 0;
  for (const draws of sequentialBatches(total, job.batchSize)) {
    await context.pause();
    const { pixels } = await filler.fill(draws, job.examples, context.crops);
    const outputs = await executable.run({ pixels, ...parameters });
    const logits = (outputs['logits'] as FloatTensor).data;
    for (const [slot, { index }] of draws.entries()) {
      const { label } = job.examples[index]!;
      const row = logits.subarray(slot * shape.classes, (slot + 1) * shape.classes);
      const counts = perClass[label]!;
      counts.total += 1;
      if (indexOfLargest(row) === label) counts.correct += 1;
      lossSum += crossEntropy(row, label);
    }
    seen += draws.length;
    const imagesPerSecond = (1000 * seen) / (performance.now() - startMs);
    const step = Math.ceil(seen / job.batchSize);
    context.onProgress({ step, steps, epoch: seen / total, loss: lossSum / seen, imagesPerSecond });
  }
  const correct = perClass.reduce((sum, counts) => sum + counts.correct, 0);
  return { correct, total, meanLoss: lossSum / total, perClass };
}

function indexOfLargest(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** −log softmax(logits)[label] */
function crossEntropy(logits: Float32Array, label: number): number {
  const largest = Math.max(...logits);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return Math.log(sum) + largest - logits[label]!;
}
