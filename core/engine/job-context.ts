/** What the jobs of the trainer process share. */
import { readFile } from 'node:fs/promises';
import type { ModelState } from '../lora/model-state.ts';
import { decodeModelState } from '../lora/state-file.ts';
import type { BaseModel } from '../models/base-model.ts';
import { loadBaseModel } from '../models/catalogue.ts';
import { AppError } from '../shared/errors.ts';
import type { CropCache } from './batches.ts';
import type { ExecutableCache } from './executable-cache.ts';
import type { Example, TrainProgress } from './trainer-protocol.ts';

export interface JobContext {
  executables: ExecutableCache;
  crops: CropCache;
  onProgress(progress: TrainProgress): void;
  /** Lets messages in; called between two steps. @throws AppError TRAINING_CANCELLED */
  pause(): Promise<void>;
}

/**
 * Loads what a job starts from and checks that its parts belong together.
 * @throws AppError NOT_FOUND | MODEL_UNKNOWN | MODEL_FILE_INVALID | SHAPE_MISMATCH | LABEL_UNKNOWN | NOT_ENOUGH_DATA
 */
export async function openJob(job: {
  baseId: string;
  stateFile: string;
  examples: readonly Example[];
}): Promise<{ base: BaseModel; state: ModelState }> {
  const base = await loadBaseModel(job.baseId);
  const state = decodeModelState(await readState(job.stateFile), 'the starting state');
  if (state.baseSha256 !== base.sha256) {
    throw new AppError('SHAPE_MISMATCH', `The starting state belongs to another base model than ${base.id}.`);
  }
  if (job.examples.length === 0) throw new AppError('NOT_ENOUGH_DATA', 'There are no pictures to work on.');
  const tooLarge = job.examples.find((example) => example.label >= state.classes.length);
  if (tooLarge) {
    throw new AppError(
      'LABEL_UNKNOWN',
      `A picture has class number ${tooLarge.label}, but the model knows ${state.classes.length} classes.`,
    );
  }
  return { base, state };
}

async function readState(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new AppError('NOT_FOUND', 'The state to start from cannot be read.', { cause });
  }
}
