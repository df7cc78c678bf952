/** Chooses how a job computes, and keeps it going when that fails. */
import type { DeviceKind, EngineName } from './engine.ts';
import { type ComputePlan, fallBack, NotFiniteError } from './fallback.ts';
import type { GraphFacts } from './graph-facts.ts';
import type { JobContext } from './job-context.ts';
import { chooseLanes, lanesWithin } from './lanes.ts';
import { chooseMicroBatch, imagesIn, stableBudgetBytes, stepMemory } from './micro-batch.ts';
import type { TrainEvent } from './trainer-protocol.ts';

/** What a job says about how it wants to be computed. */
export interface ComputeWishes {
  device: DeviceKind;
  threads: number;
  microBatch?: number | undefined;
  memoryBudgetBytes?: number | undefined;
}

/**
 * On a processor no more images at once in a lane, and no more than take this much memory: the products are large
 * enough by then, and activations stay nearer to the processor (measured: docs/benchmarks.md).
 */
const mostOnProcessor = 16;
const workingSetBytes = 512 * 1024 * 1024;

/**
 * Images to compute at once on a device. On the processor they are chosen by its memory; an accelerator whose
 * memory nobody knows gets the whole batch and falls back when that is too much.
 * @param peakBytesOf `peakBytes` of the job's graph for a batch size
 * @param lanes among which they will be divided
 */
export function planCompute(
  wishes: ComputeWishes,
  batchSize: number,
  peakBytesOf: (batch: number) => number,
  lanes = 1,
): ComputePlan {
  const { device, microBatch } = wishes;
  if (microBatch !== undefined) return { device, microBatch: Math.min(batchSize, microBatch), lanes };
  const memoryBudgetBytes =
    wishes.memoryBudgetBytes ?? (device === 'cpu' ? stableBudgetBytes() : Number.POSITIVE_INFINITY);
  const most = device === 'cpu' ? Math.min(batchSize, lanes * mostOnProcessor) : batchSize;
  if (batchSize === 1 || memoryBudgetBytes === Number.POSITIVE_INFINITY) {
    return { device, microBatch: most, lanes };
  }
  const atOnce = (batch: number) => ({ batch, peakBytes: peakBytesOf(batch) });
  const memory = stepMemory(atOnce(1), atOnce(Math.max(2, most)));
  const near = device === 'cpu' ? lanes * imagesIn(workingSetBytes, memory) : most;
  const fixedBytes = lanes * memory.fixedBytes;
  const limits = { fixedBytes, memoryBudgetBytes, most: Math.min(most, near) };
  return { device, microBatch: chooseMicroBatch({ ...memory, batchSize, ...limits }), lanes };
}

/**
 * {@link planCompute} for training, with lanes where they pay.
 * @param factsOf of the training graph for a batch size
 */
export function planTraining(
  wishes: ComputeWishes & { engine: EngineName },
  batchSize: number,
  factsOf: (batch: number) => GraphFacts,
): ComputePlan {
  const lanes = chooseLanes({
    ...wishes,
    microBatch: wishes.microBatch ?? batchSize,
    facts: () => factsOf(1),
  });
  const plan = planCompute(wishes, batchSize, (batch) => factsOf(batch).peakBytes, lanes);
  return { ...plan, lanes: lanesWithin(lanes, plan.microBatch) };
}

/**
 * Attempts until one succeeds or nothing safe is left; each attempt goes on from what the one before has done.
 * @param replan the plan for a device that the job falls back to
 * @throws AppError what {@link fallBack} throws
 */
export async function computeWithFallback<T>(
  start: ComputePlan,
  replan: (device: DeviceKind) => ComputePlan,
  context: Pick<JobContext, 'executables' | 'onPrepared'>,
  onEvent: (event: TrainEvent) => void,
  attempt: (plan: ComputePlan) => Promise<T>,
): Promise<T> {
  let plan = start;
  let retriedStep: number | undefined;
  for (;;) {
    try {
      context.onPrepared(plan.microBatch);
      return await attempt(plan);
    } catch (failure) {
      const next = fallBack(failure, plan, retriedStep);
      if (failure instanceof NotFiniteError) retriedStep = failure.step;
      plan = next.plan.device === plan.device ? next.plan : replan(next.plan.device);
      onEvent(next.event);
      // What is compiled may hold the memory that was missing, or belong to a device that is gone.
      if (next.event.kind !== 'retried') await context.executables.release();
    }
  }
}
