/**
 * Imported base models: `<models folder>/<id>/` holds the files as they came and `anneal-model.json`, which says how
 * they are to be read and what they must be. A folder is there whole or not at all (see import-model.ts).
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { alignmentSchema } from '../config/alignment.ts';
import { leakReportSchema } from '../config/leak-report.ts';
import { normalisationSchema, preprocessingSchema } from '../config/preprocessing.ts';
import { AppError, type ErrorReport, toAppError } from '../shared/errors.ts';
import { sha256Schema as hash } from '../shared/sha256-schema.ts';
import { jsonText, plural } from '../shared/text.ts';
import { syncFolder, writeFileAtomically } from '../store/atomic-file.ts';
import type { BaseModel } from './base-model.ts';
import { openModelFiles } from './model-formats.ts';

export const manifestName = 'anneal-model.json';

/** Lowercase, digits, points and dashes; it is the name of a folder on every system. */
export const modelIdSchema = z
  .string()
  .max(64)
  .regex(/^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/, 'must consist of lowercase letters, digits, dots and dashes');

const layerCount = z.int().nonnegative().max(100_000);
/** Layers that LoRA can adapt, and those that a run adapts unless its settings say otherwise. */
export const adaptableSchema = z.strictObject({ layers: layerCount, byDefault: layerCount });
export type Adaptable = z.infer<typeof adaptableSchema>;

export const modelManifestSchema = z.strictObject({
  formatVersion: z.literal(1),
  id: modelIdSchema,
  format: z.enum(['vit', 'onnx']),
  /** Identity of the base model: what a round manifest names. */
  sha256: hash,
  /** By which rule it came about; absent for folders, and for ONNX files of the time when names counted. */
  identity: z.literal(2).optional(),
  licence: z.string(),
  /** Side of the square input in pixels. */
  inputSize: z.number().int().positive(),
  /** Absent in what was imported before base models had one. */
  alignment: alignmentSchema.optional(),
  /** Nobody said it at the import. */
  alignmentAssumed: z.boolean().optional(),
  embeddingSize: z.number().int().positive(),
  /** Absent in what an earlier version imported, until somebody asks. */
  adaptable: adaptableSchema.optional().catch(undefined),
  /** Of pixels scaled to 0…1; null when the network takes pixels as they are or normalises them itself. */
  normalisation: normalisationSchema.nullable(),
  /** Where it is known from; absent for folders, and for what an earlier version imported. */
  preprocessing: preprocessingSchema.optional().catch(undefined),
  /** What the person said at the import, in the words of the format's own options. */
  options: z.record(z.string(), z.unknown()),
  /** The file that is opened; the first of `files` for ONNX. */
  files: z
    .array(
      z.strictObject({ name: z.string().min(1), sizeBytes: z.number().int().nonnegative(), sha256: hash }),
    )
    .min(1),
  importedAt: z.iso.datetime(),
  /** How much of an image its embedding gives away; absent until it is measured. An unreadable one counts as absent. */
  leak: leakReportSchema.optional().catch(undefined),
});
export type ModelManifest = z.infer<typeof modelManifestSchema>;

/** Manifests of all models of the folder, by id; one that cannot be read is left out. */
export async function listInstalledModels(modelsFolder: string): Promise<ModelManifest[]> {
  const manifests = await Promise.all(
    (await listModelFolders(modelsFolder)).map((id) =>
      findInstalledModel(modelsFolder, id).catch(() => null),
    ),
  );
  return manifests.filter((manifest) => manifest !== null);
}

/** Names of the folders that may be models, sorted; also of damaged ones. */
export async function listModelFolders(modelsFolder: string): Promise<string[]> {
  try {
    const entries = await readdir(modelsFolder, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory() && modelIdSchema.safeParse(entry.name).success)
      .map((entry) => entry.name)
      .sort();
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return [];
    throw error;
  }
}

/**
 * The manifest of one model, or null when there is none of this id.
 * @param id from anywhere: what is no model id is never taken for a path
 * @throws AppError MODEL_FILE_INVALID when its manifest is damaged
 */
export async function findInstalledModel(modelsFolder: string, id: string): Promise<ModelManifest | null> {
  if (!modelIdSchema.safeParse(id).success) return null;
  let text: string;
  try {
    text = await readFile(join(modelsFolder, id, manifestName), 'utf8');
  } catch (cause) {
    const missing = ['ENOENT', 'ENOTDIR'].includes(String((cause as { code?: unknown }).code));
    if (missing) return null;
    throw damaged(id, `its ${manifestName} cannot be read`, cause);
  }
  const parsed = jsonText.pipe(modelManifestSchema).safeParse(text);
  if (!parsed.success) throw damaged(id, `its ${manifestName} is malformed`, parsed.error);
  if (parsed.data.id !== id) throw damaged(id, `its ${manifestName} belongs to "${parsed.data.id}"`);
  return parsed.data;
}

export async function writeManifest(folder: string, manifest: ModelManifest): Promise<void> {
  await writeFileAtomically(join(folder, manifestName), `${JSON.stringify(manifest, null, 2)}\n`, 0o600);
}

/** Adds to the manifest what was found out later, unless the folder holds another model by now. */
export async function keepWithInstalled(
  modelsFolder: string,
  measured: { id: string; sha256: string },
  facts: Partial<Pick<ModelManifest, 'leak' | 'adaptable'>>,
): Promise<void> {
  const manifest = await findInstalledModel(modelsFolder, measured.id);
  if (manifest?.sha256 !== measured.sha256) return;
  await writeManifest(join(modelsFolder, measured.id), { ...manifest, ...facts });
}

/** Folders of models that are being removed; one that a power cut left is swept by the next removal. */
const removedPrefix = '.removed-';

/**
 * Takes a model away: at once for everybody who looks, then from the disk.
 * @throws AppError DATA_FOLDER_UNUSABLE, NOT_FOUND when there is none of this id
 */
export async function removeInstalledModel(modelsFolder: string, id: string): Promise<void> {
  if (!(await listModelFolders(modelsFolder)).includes(id))
    throw new AppError('NOT_FOUND', `There is no imported model "${id}" here.`);
  try {
    await rename(join(modelsFolder, id), join(modelsFolder, removedPrefix + randomUUID()));
    await syncFolder(modelsFolder);
  } catch (cause) {
    throw new AppError('DATA_FOLDER_UNUSABLE', `The model "${id}" cannot be removed from the data folder.`, {
      action: 'Check that Anneal may write to its data folder, then remove the model again.',
      cause,
    });
  }
  for (const name of await readdir(modelsFolder)) {
    // The model is gone in any case; what cannot be deleted now, the next removal tries again.
    if (name.startsWith(removedPrefix))
      await rm(join(modelsFolder, name), { recursive: true, force: true }).catch(() => {});
  }
}

/**
 * Opens a model and checks that it is still the one that was imported.
 * @throws AppError MODEL_FILE_INVALID
 */
export async function openInstalledModel(modelsFolder: string, manifest: ModelManifest): Promise<BaseModel> {
  const { id, files } = manifest;
  for (const { name, sizeBytes } of files) {
    const status = await stat(join(modelsFolder, id, name)).catch(() => null);
    if (status?.size !== sizeBytes) {
      throw damaged(
        id,
        `${name} is ${status === null ? 'missing' : `${plural(status.size, 'byte')} instead of ${sizeBytes}`}`,
      );
    }
  }
  const model = await openModelFiles(
    join(modelsFolder, id),
    { ...manifest, options: settledOptions(manifest) },
    { identity: manifest.identity ?? 1 },
  );
  const length = manifest.leak?.embeddingLength;
  if (model.sha256 === manifest.sha256)
    return { ...model, ...(length !== undefined && { embeddingLength: length }) };
  throw damaged(id, 'its weights are not those that were imported');
}

/** What the import took for pixels stays, also where it would ask today. */
function settledOptions({ format, options, normalisation }: ModelManifest): Record<string, unknown> {
  return format === 'onnx' && normalisation !== null ? { ...normalisation, ...options } : options;
}

export interface ModelCheck {
  readonly id: string;
  readonly sha256: string | null;
  /** What is wrong; null when every byte is as it was imported. */
  readonly problem: ErrorReport | null;
}

/** Reads every byte of a model's files and compares size, hash and identity. Never rejects for a damaged model. */
export async function verifyInstalledModel(modelsFolder: string, id: string): Promise<ModelCheck> {
  let sha256: string | null = null;
  try {
    const manifest = await findInstalledModel(modelsFolder, id);
    if (manifest === null) throw damaged(id, `its ${manifestName} is missing`);
    sha256 = manifest.sha256;
    for (const file of manifest.files) {
      const found = await hashFile(join(modelsFolder, id, file.name)).catch((cause) => {
        throw damaged(id, `${file.name} is missing or cannot be read`, cause);
      });
      if (found.sha256 !== file.sha256) throw damaged(id, `${file.name} has changed since it was imported`);
    }
    await openInstalledModel(modelsFolder, manifest);
    return { id, sha256, problem: null };
  } catch (thrown) {
    return { id, sha256, problem: toAppError(thrown).toReport() };
  }
}

/** Size and SHA-256 of a file, read as a stream. */
async function hashFile(file: string): Promise<{ sizeBytes: number; sha256: string }> {
  const digest = createHash('sha256');
  let sizeBytes = 0;
  await pipeline(createReadStream(file), async (pieces) => {
    for await (const piece of pieces as AsyncIterable<Buffer>) {
      digest.update(piece);
      sizeBytes += piece.length;
    }
  });
  return { sizeBytes, sha256: digest.digest('hex') };
}

function damaged(id: string, what: string, cause?: unknown): AppError {
  return new AppError('MODEL_FILE_INVALID', `The installed model "${id}" cannot be used: ${what}.`, {
    action: `Delete its folder in the models folder and import the model again ("anneal models import").`,
    cause,
  });
}
