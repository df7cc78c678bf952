/** Embeddings of images that do not change while a head trains. */
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { Draw } from './batches.ts';
import type { ComputePlan } from './fallback.ts';
import { forwardPass } from './forward-pass.ts';
import type { JobContext } from './job-context.ts';
import type { TrainJob } from './trainer-protocol.ts';
import { buildFeatureGraph, graphShape } from './training-graph.ts';

export interface FeatureTable {
  /** Writes the features of some draws one after the other; rows past the draws become 0. */
  copyRows(draws: readonly Draw[], target: Float32Array): void;
}

export interface FeatureSetup {
  job: Pick<TrainJob, 'examples' | 'engine' | 'threads'>;
  context: Pick<JobContext, 'executables' | 'pixels' | 'pause'>;
  base: BaseModel;
  state: ModelState;
}

/** Runs every example once through the base model with the state's factors and weights. */
export async function computeFeatures(
  { job, base, state, context }: FeatureSetup,
  { device, microBatch }: ComputePlan,
): Promise<FeatureTable> {
  const shape = graphShape(state, { batch: microBatch });
  const { executable } = await context.executables.get(
    { graph: 'features', base: base.sha256, ...shape },
    () => buildFeatureGraph(base, shape),
    { engine: job.engine, device, threads: job.threads },
  );
  const size = base.embeddingSize;
  const table = new Float32Array(job.examples.length * size);
  const rows = forwardPass({ executable, context, base, state }, job.examples, microBatch);
  for await (const { index, outputs } of rows) table.set(outputs('features', size), index * size);
  return {
    copyRows(draws, target) {
      for (const [slot, { index }] of draws.entries()) {
        target.set(table.subarray(index * size, (index + 1) * size), slot * size);
      }
      target.fill(0, draws.length * size);
    },
  };
}
