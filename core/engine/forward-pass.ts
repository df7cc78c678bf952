/** Images through a network, one row of its outputs after the other, in the order of the examples. */
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { sequentialBatches } from './batches.ts';
import { cropShapeOf } from './crops.ts';
import type { Executable } from './engine.ts';
import type { JobContext } from './job-context.ts';
import { readAhead } from './read-ahead.ts';
import type { Example } from './trainer-protocol.ts';
import { stateParameters } from './training-graph.ts';

export interface ForwardSetup {
  /** Takes `pixels` and the state's parameters. */
  executable: Executable;
  context: Pick<JobContext, 'pixels' | 'pause'>;
  base: BaseModel;
  state: ModelState;
}

export interface OutputRow {
  index: number;
  /** The image's row of an output [batch, size]; it is overwritten by the next batch. */
  outputs(name: string, size: number): Float32Array;
}

/** @throws AppError TRAINING_CANCELLED between two batches, and what reading the images throws */
export async function* forwardPass(
  { executable, context, base, state }: ForwardSetup,
  examples: readonly Example[],
  microBatch: number,
): AsyncGenerator<OutputRow> {
  const parameters = Object.fromEntries(stateParameters(state));
  const batches = readAhead(
    context.pixels,
    sequentialBatches(examples.length, microBatch),
    (draws) => draws.map(({ index }) => ({ ...examples[index]!, augmentation: undefined })),
    { crop: cropShapeOf(base), slots: microBatch },
  );
  for await (const { batch: draws, pixels } of batches) {
    await context.pause();
    const computed = await executable.run({ ...parameters, pixels });
    for (const [slot, { index }] of draws.entries()) {
      const row = (name: string, size: number) =>
        (computed[name] as FloatTensor).data.subarray(slot * size, (slot + 1) * size);
      yield { index, outputs: row };
    }
  }
}
