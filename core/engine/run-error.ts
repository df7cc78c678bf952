/**
 * What kind of failure a runtime reports, recognised by its words: the runtimes give no codes. A smaller batch helps
 * against `out-of-memory`, only another device (or a new process) against `device-lost`.
 */
import { AppError } from '../shared/errors.ts';

export type RunErrorKind = 'out-of-memory' | 'device-lost' | 'other';

/**
 * Checked before memory: a device that was removed also fails every allocation that follows.
 * 887A0005, 06, 07 and 20 are DXGI_ERROR_DEVICE_REMOVED, _HUNG, _RESET and DRIVER_INTERNAL_ERROR; CUDA calls
 * its lost devices 46, 700, 702, 719 and 999 among others and always adds the name or the words.
 */
const lostPatterns = [
  /device.{0,30}\b(lost|removed|hung|reset|suspended)\b/i,
  /\b(lost|removed) (the )?device\b/i,
  /VK_ERROR_DEVICE_LOST|DXGI_ERROR_DEVICE|GetDeviceRemovedReason/i,
  /887A00(05|06|07|20)/i,
  /gpu will not respond to more commands/i,
  /unspecified launch failure|illegal memory access|launch timed out|cudaErrorLaunch/i,
  /cuda-capable devices? is\/are busy|gpu has fallen off the bus|cudaErrorUnknown/i,
  /has become unrecoverable|uncorrectable ECC/i,
];

/**
 * Includes the limits of WebGPU on one buffer, since smaller batches have smaller buffers, and the invalid
 * buffers that Dawn leaves behind when an allocation failed. 8007000E is E_OUTOFMEMORY.
 */
const memoryPatterns = [
  /out[ _]of[ _](\w+[ _])?memory|OutOfMemory|not enough memory|insufficient memory/i,
  /bad_alloc|bad allocation|array buffer allocation failed/i,
  /failed to allocate|cannot allocate memory|unable to allocate/i,
  /(ALLOC_FAILED|RESOURCE_EXHAUSTED|resource ?exhausted|\bOOM\b)/i,
  /8007000E/i,
  /exceeds the max buffer size limit|maxStorageBufferBindingSize|maxBufferSize/,
  /exceeds the WebGPU (supported )?maximum/i,
  /\[Invalid Buffer/,
];

/**
 * Tells failures of ONNX Runtime (CPU, WebGPU, CUDA, DirectML, Core ML) and TensorFlow apart.
 * @param cause whatever was thrown; its own causes are read too
 */
export function classifyRunError(cause: unknown): RunErrorKind {
  const text = wordsOf(cause);
  if (lostPatterns.some((pattern) => pattern.test(text))) return 'device-lost';
  return memoryPatterns.some((pattern) => pattern.test(text)) ? 'out-of-memory' : 'other';
}

/** What a person reads of a failed run. @param runtime its name, for a failure that has no known kind */
export function runError(cause: unknown, runtime: string): AppError {
  switch (classifyRunError(cause)) {
    case 'device-lost':
      return new AppError('DEVICE_UNAVAILABLE', 'The graphics processor stopped answering.', { cause });
    case 'out-of-memory':
      return new AppError('TRAINING_FAILED', 'There was not enough memory for this training step.', {
        action: 'Choose a smaller batch size, or close other programs.',
        cause,
      });
    default:
      return new AppError('TRAINING_FAILED', `A training step failed in ${runtime}.`, { cause });
  }
}

/** A lane (see `Lane`) that is gone; what it computed can be computed without it. */
export class LaneEndedError extends AppError {
  constructor(cause?: unknown) {
    super('TRAINING_FAILED', 'A trainer thread that computes a part of each batch ended.', { cause });
  }
}

/** How many causes of causes are read: an error could name itself as its own cause. */
const causeDepth = 4;

function wordsOf(cause: unknown): string {
  const words: string[] = [];
  for (let at = cause, depth = 0; at !== undefined && at !== null && depth < causeDepth; depth++) {
    if (!(at instanceof Error)) {
      words.push(String(at));
      break;
    }
    words.push(`${at.name}: ${at.message}`);
    at = at.cause;
  }
  return words.join('\n');
}
