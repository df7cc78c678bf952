/** The base models that this installation can train: those it brings and those a person imported. */
import { join } from 'node:path';
import { type Alignment, originalAlignment } from '../config/alignment.ts';
import { type LeakReport, leakTestVersion } from '../config/leak-report.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import type { BaseModel } from './base-model.ts';
import { findBuiltInLeak, keepBuiltInLeak } from './built-in-leaks.ts';
import { faceResnet128Id, loadFaceResnet128 } from './face-resnet-128.ts';
import { type ExamineModel, type ImportSteps, importModel } from './import-model.ts';
import { describeModel, inspectSource, type ModelReport } from './inspect-model.ts';
import {
  findInstalledModel,
  keepWithInstalled,
  listInstalledModels,
  listModelFolders,
  type ModelCheck,
  type ModelManifest,
  openInstalledModel,
  removeInstalledModel,
  verifyInstalledModel,
} from './installed-models.ts';
import type { ImportOptions } from './model-formats.ts';
import { inspectOnnxFile } from './onnx/inspect.ts';

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
  readonly alignment: Alignment;
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
  /**
   * The identity of a base model without reading its weights, where it was imported.
   * @throws AppError MODEL_UNKNOWN | MODEL_FILE_INVALID
   */
  identify(id: string): Promise<string>;
  /**
   * The id under which this installation holds a base model of that identity: the given one where it fits, else
   * another, since each site chooses the ids of what it imports.
   * @throws AppError MODEL_UNKNOWN saying what to import
   */
  resolve(id: string, sha256: string): Promise<string>;
  /** Installs a model from a folder or file; see `importModel`, also for its errors, `examine` and `steps`. */
  import(
    path: string,
    options?: ImportOptions,
    examine?: ExamineModel,
    steps?: ImportSteps,
  ): Promise<ModelManifest>;
  /**
   * Takes an imported model away, also a damaged one. Whoever asks has made sure that nothing needs it.
   * @throws AppError NOT_FOUND | DATA_FOLDER_UNUSABLE; CONFIG_INVALID for one that is built in
   */
  remove(id: string): Promise<void>;
  /**
   * The leak report that is kept of a base model; null when this version of the test has not measured it.
   * @throws AppError MODEL_UNKNOWN | MODEL_FILE_INVALID
   */
  keptLeak(id: string): Promise<LeakReport | null>;
  /** Keeps a report with the model of that identity. Without a models folder it is forgotten. */
  keepLeak(id: string, sha256: string, leak: LeakReport): Promise<void>;
  /**
   * Describes a model of the catalogue, or one at a path that is not imported yet, with the options of an import.
   * @throws AppError MODEL_UNKNOWN when there is neither; otherwise as `load` and `import`
   */
  inspect(idOrPath: string, options?: ImportOptions): Promise<ModelReport>;
  /** Compares every byte with what was imported: of one model, or of all, damaged ones too. @throws AppError MODEL_UNKNOWN */
  verify(id?: string): Promise<ModelCheck[]>;
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
        alignment: originalAlignment,
        importedAt: null,
      },
      load: loadFaceResnet128,
    },
  ],
]);
/** Built-in models are the same for every catalogue of the process. */
const loadedBuiltIns = new Map<string, Promise<BaseModel>>();

function isBuiltIn(id: string): boolean {
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
      ...installed.map(({ alignment = originalAlignment, ...manifest }) => ({
        ...pick(manifest, 'id', 'format', 'sha256', 'licence', 'inputSize', 'importedAt'),
        alignment,
      })),
    ];
  }

  async function load(id: string): Promise<BaseModel> {
    const own = builtIn.get(id);
    if (own !== undefined) return once(loadedBuiltIns, id, own.load);
    const manifest = modelsFolder === undefined ? null : await findInstalledModel(modelsFolder, id);
    if (modelsFolder === undefined || manifest === null) throw await unknown(id);
    const known = loaded.get(id);
    if (known?.sha256 === manifest.sha256) return known.model;
    const model = openInstalledModel(modelsFolder, manifest);
    loaded.set(id, { sha256: manifest.sha256, model });
    model.catch(() => loaded.delete(id));
    return model;
  }

  async function identify(id: string): Promise<string> {
    const manifest = modelsFolder === undefined ? null : await findInstalledModel(modelsFolder, id);
    return manifest?.sha256 ?? (await load(id)).sha256;
  }

  async function resolve(id: string, sha256: string): Promise<string> {
    const entries = await list();
    const same = entries.find((entry) => entry.id === id);
    if (same !== undefined && (await identify(id)) === sha256) return id;
    const other = entries.find((entry) => entry.sha256 === sha256);
    if (other !== undefined) return other.id;
    const held =
      same === undefined ? 'is not installed here' : 'is installed here with other weights or settings';
    throw new AppError('MODEL_UNKNOWN', `The base model "${id}" of this run ${held}.`, {
      action:
        `Import the model whose identity is ${sha256}, on the screen Models or with "anneal models import PATH"; ` +
        'both show the identity of a file before. The same file with other pixels or another alignment has another one.',
    });
  }

  async function keptLeak(id: string): Promise<LeakReport | null> {
    const manifest = modelsFolder === undefined ? null : await findInstalledModel(modelsFolder, id);
    if (manifest === null && !isBuiltIn(id)) throw await unknown(id);
    if (modelsFolder === undefined) return null;
    const leak = manifest === null ? await findBuiltInLeak(modelsFolder, await identify(id)) : manifest.leak;
    return leak?.testVersion === leakTestVersion ? leak : null;
  }

  async function keepLeak(id: string, sha256: string, leak: LeakReport): Promise<void> {
    if (modelsFolder === undefined) return;
    if (isBuiltIn(id)) await keepBuiltInLeak(modelsFolder, sha256, leak);
    else await keepWithInstalled(modelsFolder, { id, sha256 }, { leak });
  }

  async function verify(id?: string): Promise<ModelCheck[]> {
    const installed = modelsFolder === undefined ? [] : await listModelFolders(modelsFolder);
    const ids = id === undefined ? [...builtIn.keys(), ...installed] : [id];
    if (id !== undefined && !builtIn.has(id) && !installed.includes(id)) throw await unknown(id);
    const checks = [];
    for (const each of ids) {
      checks.push(
        builtIn.has(each) ? await checkBuiltIn(each) : await verifyInstalledModel(modelsFolder!, each),
      );
    }
    return checks;
  }

  async function checkBuiltIn(id: string): Promise<ModelCheck> {
    try {
      return { id, sha256: (await load(id)).sha256, problem: null };
    } catch (thrown) {
      return { id, sha256: null, problem: toAppError(thrown).toReport() };
    }
  }

  async function inspect(idOrPath: string, options: ImportOptions = {}): Promise<ModelReport> {
    const entry = (await list()).find((each) => each.id === idOrPath);
    if (entry !== undefined) {
      const { id, format, licence, importedAt } = entry;
      const manifest = format === 'built-in' ? null : await findInstalledModel(modelsFolder!, id);
      const onnx =
        manifest?.format === 'onnx'
          ? await inspectOnnxFile(join(modelsFolder!, id, manifest.files[0]!.name))
          : null;
      const alignmentAssumed = manifest?.alignmentAssumed ?? false;
      const about = { id, format, licence, importedAt, onnx, alignmentAssumed, leak: await keptLeak(id) };
      return { ...about, problem: null, ...describeModel(await load(id)) };
    }
    try {
      return await inspectSource(idOrPath, options);
    } catch (error) {
      // Nothing there: most likely a mistyped id.
      if (error instanceof AppError && error.code === 'NOT_FOUND') throw await unknown(idOrPath);
      throw error;
    }
  }

  async function unknown(id: string): Promise<AppError> {
    const ids = (await list()).map((entry) => entry.id).join(', ');
    return new AppError('MODEL_UNKNOWN', `There is no base model "${id}" here; available are ${ids}.`);
  }

  return {
    list,
    load,
    identify,
    resolve,
    async import(path, options = {}, examine, steps) {
      if (modelsFolder === undefined) {
        throw new AppError('DATA_FOLDER_UNUSABLE', 'There is no folder for imported models.');
      }
      return importModel(modelsFolder, path, options, isBuiltIn, examine, steps);
    },
    async remove(id) {
      if (isBuiltIn(id))
        throw new AppError('CONFIG_INVALID', `The base model "${id}" comes with Anneal and stays.`, {
          action: 'Nothing has to be done: runs use it only when they name it.',
        });
      if (modelsFolder === undefined) throw await unknown(id);
      await removeInstalledModel(modelsFolder, id);
      loaded.delete(id);
    },
    keptLeak,
    keepLeak,
    inspect,
    verify,
  };
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
