/** Embeddings of pictures that do not change while a head trains. */
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { createBatchFiller, type Draw, sequentialBatches } from './batches.ts';
import type { DeviceKind } from './engine.ts';
import type { JobContext } from './job-context.ts';
import type { Example } from './trainer-protocol.ts';
import { buildFeatureGraph, graphShape, stateParameters } from './training-graph.ts';

/** Gives the features [batch, embeddingSize] of some draws; rows past the draws are 0. */
export type FeatureBatch = (draws: readonly Draw[]) => FloatTensor;

/** Runs every example once through the base model with the state's factors and weights. */
export async function computeFeatures(
  job: { examples: readonly Example[]; device: DeviceKind; threads: number },
  base: BaseModel,
  state: ModelState,
  batch: number,
  context: JobContext,
): Promise<FeatureBatch> {
  const shape = graphShape(state, { batch });
  const executable = await context.executables.get(
    { graph: 'features', base: base.sha256, ...shape },
    () => buildFeatureGraph(base, shape),
    { device: job.device, threads: job.threads },
  );
  const parameters = [...stateParameters(state)].filter(([name]) => !name.startsWith('head.'));
  const size = base.embeddingSize;
  const table = new Float32Array(job.examples.length * size);
  const filler = createBatchFiller(batch, base.inputSize);
  for (const draws of sequentialBatches(job.examples.length, batch)) {
    await context.pause();
    const { pixels } = await filler.fill(draws, job.examples, context.crops);
    const outputs = await executable.run({ pixels, ...Object.fromEntries(parameters) });
    const rows = (outputs['features'] as FloatTensor).data.subarray(0, draws.length * size);
    table.set(rows, draws[0]!.index * size);
  }
  return (draws) => {
    const features = floatTensor([batch, size]);
    for (const [slot, { index }] of draws.entries()) {
      features.data.set(table.subarray(index * size, (index + 1) * size), slot * size);
    }
    return features;
  };
}
