/** The base models that this installation can train. */
import { AppError } from '../shared/errors.ts';
import type { BaseModel } from './base-model.ts';
import { faceResnet128Id, loadFaceResnet128 } from './face-resnet-128.ts';

const loaders = new Map<string, () => Promise<BaseModel>>([[faceResnet128Id, loadFaceResnet128]]);
const loaded = new Map<string, Promise<BaseModel>>();

/** Ids of all base models, the default first. */
export function listBaseModels(): string[] {
  return [...loaders.keys()];
}

/**
 * Loads a base model; the second call gives the same object.
 * @throws AppError MODEL_UNKNOWN | MODEL_FILE_INVALID
 */
export function loadBaseModel(id: string): Promise<BaseModel> {
  const known = loaded.get(id);
  if (known) return known;
  const load = loaders.get(id);
  if (!load) {
    const ids = listBaseModels().join(', ');
    return Promise.reject(
      new AppError('MODEL_UNKNOWN', `There is no base model "${id}" here; there is ${ids}.`),
    );
  }
  const model = load();
  loaded.set(id, model);
  // A file may be repaired while we run: a failure is not remembered.
  model.catch(() => loaded.delete(id));
  return model;
}
