/** What the jobs of the trainer process share. */
import { readFile } from 'node:fs/promises';
import type { ModelState } from '../lora/model-state.ts';
import { decodeModelState } from '../lora/state-file.ts';
import type { BaseModel } from '../models/base-model.ts';
import { AppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import { plural } from '../shared/text.ts';
import type { ExecutableCache } from './executable-cache.ts';
import type { PixelSource } from './pixel-source.ts';
import type { Example, TrainProgress } from './trainer-protocol.ts';

export interface JobContext {
  executables: ExecutableCache;
  pixels: PixelSource;
  /** @throws AppError MODEL_UNKNOWN | MODEL_FILE_INVALID */
  loadBase(id: string): Promise<BaseModel>;
  onProgress(progress: TrainProgress): void;
  /** Called before the first step and after every change: how many images are computed at once. */
  onPrepared(microBatch: number): void;
  /** Lets messages in; called between two steps. @throws AppError TRAINING_CANCELLED */
  pause(): Promise<void>;
}

export interface OpenedJob {
  base: BaseModel;
  state: ModelState;
  /** Of the starting state's file. */
  stateSha256: string;
}

/**
 * Loads what a job starts from and checks that its parts belong together.
 * @throws AppError NOT_FOUND | BLOB_CORRUPT | MODEL_UNKNOWN | MODEL_FILE_INVALID | SHAPE_MISMATCH | LABEL_UNKNOWN | NOT_ENOUGH_DATA
 */
export async function openJob(
  job: { baseId: string; stateFile: string; stateSha256?: string | undefined; examples: readonly Example[] },
  context: Pick<JobContext, 'loadBase'>,
): Promise<OpenedJob> {
  const base = await context.loadBase(job.baseId);
  const bytes = await readState(job.stateFile);
  const stateSha256 = sha256(bytes);
  if (job.stateSha256 !== undefined && job.stateSha256 !== stateSha256)
    throw new AppError('BLOB_CORRUPT', 'The state to start from was damaged on this disk.');
  const state = decodeModelState(bytes, 'the starting state');
  if (state.baseSha256 !== base.sha256) {
    throw new AppError('SHAPE_MISMATCH', `The starting state does not belong to the base model ${base.id}.`);
  }
  if (job.examples.length === 0) throw new AppError('NOT_ENOUGH_DATA', 'There are no images to work on.');
  const tooLarge = job.examples.find((example) => example.label >= state.classes.length);
  if (tooLarge) {
    throw new AppError(
      'LABEL_UNKNOWN',
      `An image has class number ${tooLarge.label}, but the model has ${plural(state.classes.length, 'class')}.`,
    );
  }
  return { base, state, stateSha256 };
}

async function readState(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new AppError('NOT_FOUND', 'The state to start from cannot be read.', { cause });
  }
}
