/** Images through a network, one row of its outputs after the other, in the order of the examples. */
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { sequentialBatches } from './batches.ts';
import { cropShapeOf } from './crops.ts';
import type { Executable } from './engine.ts';
import type { JobContext } from './job-context.ts';
import { mirrorPlanes } from './mirror-planes.ts';
import { readAhead } from './read-ahead.ts';
import type { Example } from './trainer-protocol.ts';
import { stateParameters } from './training-graph.ts';

export interface ForwardSetup {
  /** Takes `pixels` and the state's parameters. */
  executable: Executable;
  context: Pick<JobContext, 'pixels' | 'pause'>;
  base: BaseModel;
  state: ModelState;
  /** Outputs that are computed of each image's mirror image, too. */
  mirrored?: readonly string[];
}

export interface OutputRow {
  index: number;
  /** The image's row of an output [batch, size]; it is overwritten by the next batch. */
  outputs(name: string, size: number): Float32Array;
  /** The same of the mirror image; undefined where it was not asked for. */
  mirrored(name: string, size: number): Float32Array | undefined;
}

/** @throws AppError TRAINING_CANCELLED between two batches, and what reading the images throws */
export async function* forwardPass(
  { executable, context, base, state, mirrored = [] }: ForwardSetup,
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
    const others = new Map<string, Float32Array>();
    if (mirrored.length > 0) {
      mirrorPlanes(pixels.data, base.inputSize);
      const computed = await executable.run({ ...parameters, pixels });
      // The next run may use their memory again.
      for (const name of mirrored) others.set(name, (computed[name] as FloatTensor).data.slice());
      mirrorPlanes(pixels.data, base.inputSize);
    }
    const computed = await executable.run({ ...parameters, pixels });
    for (const [slot, { index }] of draws.entries()) {
      const part = (data: Float32Array, size: number) => data.subarray(slot * size, (slot + 1) * size);
      yield {
        index,
        outputs: (name, size) => part((computed[name] as FloatTensor).data, size),
        mirrored(name, size) {
          const other = others.get(name);
          return other && part(other, size);
        },
      };
    }
  }
}
