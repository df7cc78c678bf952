/** What a job does when the memory runs out, a device is lost or the numbers are no numbers. */
import { AppError, toAppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import type { DeviceKind } from './engine.ts';
import { lanesWithin } from './lanes.ts';
import { classifyRunError, LaneEndedError } from './run-error.ts';
import type { TrainEvent } from './trainer-protocol.ts';

/** Where and in what portions a job computes. */
export interface ComputePlan {
  device: DeviceKind;
  /** Images computed at once, by all lanes together. */
  microBatch: number;
  /** Threads that each compute a part of them, see lanes.ts. */
  lanes: number;
}

/** A loss or gradient that is not a finite number; the parameters were not changed by it. */
export class NotFiniteError extends Error {
  readonly step: number;
  readonly steps: number;

  /** @param step 0-based */
  constructor(step: number, steps: number) {
    super(`the loss is not a finite number at step ${step + 1} of ${steps}`);
    this.step = step;
    this.steps = steps;
  }
}

export interface Fallback {
  plan: ComputePlan;
  event: TrainEvent;
}

/** Codes of failures that may be a device's. */
const deviceCodes: ReadonlySet<string> = new Set(['DEVICE_UNAVAILABLE', 'TRAINING_FAILED']);

/**
 * The plan to go on with after a failure, from the last good state.
 *
 * Memory: half as many images at once, down to one; then from an accelerator to the processor. A lane that ended:
 * batches are computed without lanes. Any other failure of an accelerator: the processor. Numbers that are not finite:
 * an accelerator computes the step once more, then the processor does. What fails on the processor is not tried again, since it would fail again.
 * @param retriedStep the last step that was computed again because of such numbers
 * @throws the failure, as an AppError, when nothing safe is left
 */
export function fallBack(failure: unknown, plan: ComputePlan, retriedStep: number | undefined): Fallback {
  if (failure instanceof NotFiniteError) return afterNotFinite(failure, plan, retriedStep);
  // What is wrong with the job itself is wrong on every device.
  if (failure instanceof AppError && !deviceCodes.has(failure.code)) throw failure;
  if (failure instanceof LaneEndedError && plan.lanes > 1) return withoutLanes(plan);
  const kind = classifyRunError(failure);
  if (kind === 'out-of-memory') return afterMemory(failure, plan);
  if (!(failure instanceof AppError) || plan.device === 'cpu') throw toAppError(failure);
  return toProcessor(plan, `The device "${plan.device}" failed; training continues on the processor.`);
}

function afterNotFinite(
  failure: NotFiniteError,
  plan: ComputePlan,
  retriedStep: number | undefined,
): Fallback {
  const { step, steps } = failure;
  if (plan.device === 'cpu') {
    throw new AppError(
      'TRAINING_FAILED',
      `Training diverged at step ${step + 1} of ${steps}: the loss is no longer a number.`,
      { action: 'Start the run again with a lower learning rate.' },
    );
  }
  if (retriedStep === step) {
    return toProcessor(
      plan,
      `The device "${plan.device}" gave numbers that are not finite at step ${step + 1}; training continues on the processor.`,
    );
  }
  const message = `Step ${step + 1} gave numbers that are not finite on "${plan.device}" and is computed again.`;
  return { plan, event: { kind: 'retried', message, from: plan.device, to: plan.device } };
}

function afterMemory(failure: unknown, plan: ComputePlan): Fallback {
  const { microBatch, device } = plan;
  if (microBatch > 1) {
    const smaller = Math.floor(microBatch / 2);
    const message = `There was not enough memory for ${plural(microBatch, 'image')} at once; training continues with ${smaller} at once.`;
    return {
      plan: { ...plan, microBatch: smaller, lanes: lanesWithin(plan.lanes, smaller) },
      event: { kind: 'smaller-batch', message, from: String(microBatch), to: String(smaller) },
    };
  }
  if (device !== 'cpu') {
    return toProcessor(
      plan,
      `"${device}" does not have enough memory for one image; training continues on the processor.`,
    );
  }
  throw new AppError('TRAINING_FAILED', 'There is not enough memory for even one image at a time.', {
    action: 'Close other programs, or choose a smaller base model.',
    cause: failure,
  });
}

function withoutLanes(plan: ComputePlan): Fallback {
  const message =
    'A thread that computed a part of each batch ended; training continues without such threads.';
  return {
    plan: { ...plan, lanes: 1 },
    event: { kind: 'lane-ended', message, from: String(plan.lanes), to: '1' },
  };
}

function toProcessor(plan: ComputePlan, message: string): Fallback {
  return {
    plan: { ...plan, device: 'cpu' },
    event: { kind: 'device-changed', message, from: plan.device, to: 'cpu' },
  };
}
