/** Embeddings of images that do not change while a head trains. */
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { type Draw, sequentialBatches } from './batches.ts';
import { cropShapeOf } from './crops.ts';
import type { ComputePlan } from './fallback.ts';
import type { JobContext } from './job-context.ts';
import { readAhead } from './read-ahead.ts';
import type { TrainJob } from './trainer-protocol.ts';
import { buildFeatureGraph, graphShape, stateParameters } from './training-graph.ts';

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
  const parameters = Object.fromEntries(stateParameters(state));
  const size = base.embeddingSize;
  const table = new Float32Array(job.examples.length * size);
  const batches = readAhead(
    context.pixels,
    sequentialBatches(job.examples.length, microBatch),
    (draws) => draws.map(({ index }) => ({ ...job.examples[index]!, augmentation: undefined })),
    { crop: cropShapeOf(base), slots: microBatch },
  );
  for await (const { batch: draws, pixels } of batches) {
    await context.pause();
    const outputs = await executable.run({ ...parameters, pixels });
    const rows = (outputs['features'] as FloatTensor).data.subarray(0, draws.length * size);
    table.set(rows, draws[0]!.index * size);
  }
  return {
    copyRows(draws, target) {
      for (const [slot, { index }] of draws.entries()) {
        target.set(table.subarray(index * size, (index + 1) * size), slot * size);
      }
      target.fill(0, draws.length * size);
    },
  };
}
