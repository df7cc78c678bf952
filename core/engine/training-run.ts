/** The steps of a training run: gradients of a batch's parts added up, then one step of the optimiser. */
import type { FloatTensor, Tensor } from '../shared/tensor.ts';
import { computeParts } from './batch-parts.ts';
import type { RunPosition } from './checkpoint.ts';
import { NotFiniteError } from './fallback.ts';
import type { Optimiser } from './optimiser.ts';
import { gradientOutput } from './training-graph.ts';
import type { TrainingProgram } from './training-program.ts';

export interface RunOptions {
  trainables: readonly string[];
  optimiser: Optimiser;
  /** All steps of the run, those done included. */
  steps: number;
  /** Moved on after every step. */
  position: RunPosition;
  pause(): Promise<void>;
  /** After every step, with the loss of its batch. */
  onStep(loss: number): Promise<void> | void;
}

/**
 * Runs the steps that are not done.
 * @throws NotFiniteError when the loss or the gradient's norm is no finite number; position, parameters and
 *   optimiser are then as they were before that step
 * @throws AppError what {@link Executable.run} and the inputs throw, with the same promise
 */
export async function runSteps(program: TrainingProgram, options: RunOptions): Promise<void> {
  const { optimiser, steps, position } = options;
  const gradients = createGradientSum(options.trainables);
  let loss = 0;
  const parts = program.parts(position.step);
  for await (const { part, outputs } of computeParts(program.executable, parts, options.pause)) {
    const first = part.offset === 0;
    loss = (first ? 0 : loss) + (outputs['loss'] as FloatTensor).data[0]!;
    gradients.add(outputs, { first, last: part.last });
    if (!part.last) continue;
    if (!Number.isFinite(loss)) throw new NotFiniteError(position.step, steps);
    const { gradientNorm } = optimiser.step(gradients.sums);
    if (!Number.isFinite(gradientNorm)) throw new NotFiniteError(position.step, steps);
    position.step += 1;
    position.images += part.batchLength;
    position.lossSum += loss * part.batchLength;
    await options.onStep(loss);
  }
}

/** Sums of the parts' gradients; the memory for them is taken once, and only if batches have several parts. */
function createGradientSum(trainables: readonly string[]) {
  const outputs = trainables.map((name) => ({ name, output: gradientOutput(name) }));
  const own = new Map<string, Float32Array>();
  const sums = new Map<string, Float32Array>();

  function addTo(sum: Float32Array, part: Float32Array): void {
    for (let i = 0; i < sum.length; i++) sum[i]! += part[i]!;
  }

  return {
    sums,
    add(values: Readonly<Record<string, Tensor>>, { first, last }: { first: boolean; last: boolean }): void {
      for (const { name, output } of outputs) {
        const { data } = values[output] as FloatTensor;
        if (first && last) {
          sums.set(name, data);
        } else if (first) {
          // Copied, since an engine may use its outputs' memory again.
          const kept = own.get(name) ?? new Float32Array(data.length);
          own.set(name, kept);
          kept.set(data);
          sums.set(name, kept);
        } else {
          addTo(sums.get(name)!, data);
        }
      }
    },
  };
}
