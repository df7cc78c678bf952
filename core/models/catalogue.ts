/** The base models that this installation can train: those it brings and those a person imported. */
import { AppError } from '../shared/errors.ts';
import type { BaseModel } from './base-model.ts';
import { faceResnet128Id, loadFaceResnet128 } from './face-resnet-128.ts';
import { findInstalledModel, listInstalledModels, openInstalledModel } from './installed-models.ts';

/** The base model of a run that names none. */
export const defaultBaseId = faceResnet128Id;

export interface CatalogueEntry {
  readonly id: string;
  readonly format: 'built-in' | 'vit' | 'onnx';
  /** Identity of the base model; null for a built-in one, whose weights are read first when it is loaded. */
  readonly sha256: string | null;
  readonly licence: string;
  /** Side of the square input in pixels. */
  readonly inputSize: number;
  readonly importedAt: string | null;
}

export interface Catalogue {
  /** All base models, the default first; a damaged one is left out (see `verifyInstalledModel`). */
  list(): Promise<CatalogueEntry[]>;
  /**
   * Loads a base model; the second call gives the same object while its files stay the same.
   * @throws AppError MODEL_UNKNOWN | MODEL_FILE_INVALID
   */
  load(id: string): Promise<BaseModel>;
}

const builtIn = new Map<string, { entry: CatalogueEntry; load: () => Promise<BaseModel> }>([
  [
    faceResnet128Id,
    {
      entry: {
        id: faceResnet128Id,
        format: 'built-in',
        sha256: null,
        licence: 'MIT',
        inputSize: 150,
        importedAt: null,
      },
      load: loadFaceResnet128,
    },
  ],
]);
/** Built-in models are the same for every catalogue of the process. */
const loadedBuiltIns = new Map<string, Promise<BaseModel>>();

export function isBuiltIn(id: string): boolean {
  return builtIn.has(id);
}

/**
 * @param modelsFolder where imported models are, normally `<data folder>/models`; it need not exist. Without it
 *   there are only the built-in ones
 */
export function createCatalogue(modelsFolder?: string): Catalogue {
  /** By id, with the identity that the manifest gave when it was loaded. */
  const loaded = new Map<string, { sha256: string; model: Promise<BaseModel> }>();

  async function list(): Promise<CatalogueEntry[]> {
    const own = [...builtIn.values()].map(({ entry }) => entry);
    if (modelsFolder === undefined) return own;
    const installed = await listInstalledModels(modelsFolder);
    return [
      ...own,
      ...installed.map(({ id, format, sha256, licence, inputSize, importedAt }) => ({
        id,
        format,
        sha256,
        licence,
        inputSize,
        importedAt,
      })),
    ];
  }

  async function load(id: string): Promise<BaseModel> {
    const own = builtIn.get(id);
    if (own !== undefined) return once(loadedBuiltIns, id, own.load);
    const manifest = modelsFolder === undefined ? null : await findInstalledModel(modelsFolder, id);
    if (modelsFolder === undefined || manifest === null) {
      const ids = (await list()).map((entry) => entry.id).join(', ');
      throw new AppError('MODEL_UNKNOWN', `There is no base model "${id}" here; there is ${ids}.`);
    }
    const known = loaded.get(id);
    if (known?.sha256 === manifest.sha256) return known.model;
    const model = openInstalledModel(modelsFolder, manifest);
    loaded.set(id, { sha256: manifest.sha256, model });
    model.catch(() => loaded.delete(id));
    return model;
  }

  return { list, load };
}

function once(kept: Map<string, Promise<BaseModel>>, id: string, load: () => Promise<BaseModel>) {
  const known = kept.get(id);
  if (known) return known;
  const model = load();
  kept.set(id, model);
  // A file may be repaired while we run: a failure is not remembered.
  model.catch(() => kept.delete(id));
  return model;
}

const builtInsOnly = createCatalogue();

/** Ids of the built-in base models, the default first. */
export function listBaseModels(): string[] {
  return [...builtIn.keys()];
}

/**
 * Loads a built-in base model; the second call gives the same object. `createCatalogue` knows the imported ones too.
 * @throws AppError MODEL_UNKNOWN | MODEL_FILE_INVALID
 */
export function loadBaseModel(id: string): Promise<BaseModel> {
  return builtInsOnly.load(id);
}
