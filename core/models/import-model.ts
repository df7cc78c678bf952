/** Copies a base model into the models folder: whole, checked, and under a name that nothing else has. */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, constants, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { LeakReport } from '../config/leak-report.ts';
import { invalid } from '../lora/safetensors.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { syncFolder } from '../store/atomic-file.ts';
import { freeBytes } from '../store/free-space.ts';
import { adaptableOf } from './inspect-model.ts';
import { findInstalledModel, type ModelManifest, modelIdSchema, writeManifest } from './installed-models.ts';
import {
  findModelSource,
  formatOptions,
  type ImportOptions,
  type ModelFiles,
  type ModelSource,
  openNewModel,
  proposeId,
  unstatedLicence,
} from './model-formats.ts';

/**
 * Looks at a model that is about to be installed; when it rejects, nothing is.
 * @param folder holds the files only until this is done
 * @returns its leak report, which is kept with the model
 */
export type ExamineModel = (folder: string, model: ModelFiles) => Promise<LeakReport>;

/** For whoever waits for an import, or wants to end it. */
export interface ImportSteps {
  /** Aborting ends it at the next step; then nothing is installed. */
  readonly signal?: AbortSignal | undefined;
  /** `share`: of the bytes that are copied, 0…1; while the copy is opened nobody can say. */
  readonly onProgress?: ((progress: { step: 'copying' | 'opening'; share: number }) => void) | undefined;
  /** Of the folder that holds what is unfinished, for {@link removeUnfinished}; a new one when absent. */
  readonly workId?: string | undefined;
}

const temporaryPrefix = '.importing-';
const temporaryOf = (modelsFolder: string, workId: string) => join(modelsFolder, temporaryPrefix + workId);

/** Deletes what an import left whose process was killed. Without it there is nothing to do. */
export const removeUnfinished = (modelsFolder: string, workId: string): Promise<void> =>
  rm(temporaryOf(modelsFolder, workId), { recursive: true, force: true });

/** An import that ended without tidying up, for instance by a power cut, is swept after this long. */
const abandonedAfterMs = 24 * 3600 * 1000;

/**
 * Copies the model's files, opens the copy, and only then gives the folder its name: a model is installed whole or
 * not at all, and what was checked is what is kept. A model that is there already with the same weights and settings
 * is left as it is.
 * @param reserved ids that no import may take
 * @param examine is asked about a model that is not there yet; without it the model has no leak report
 * @throws what `examine` throws, AppError CONFIG_INVALID for the id or a setting, NOT_FOUND, MODEL_FILE_INVALID, OPERATOR_UNSUPPORTED,
 *   DISK_FULL (also before anything was written), DATA_FOLDER_UNUSABLE, CANCELLED after an abort
 */
export async function importModel(
  modelsFolder: string,
  path: string,
  options: ImportOptions,
  reserved: (id: string) => boolean,
  examine?: ExamineModel,
  { signal, onProgress, workId = randomUUID() }: ImportSteps = {},
): Promise<ModelManifest> {
  const source = await findModelSource(path);
  const id = chooseId(options.id, source, reserved);
  const settings = formatOptions(source.format, options);
  const licence = options.licence ?? source.statedLicence ?? unstatedLicence;
  const temporary = temporaryOf(modelsFolder, workId);
  try {
    await mkdir(modelsFolder, { recursive: true, mode: 0o700 });
    await sweepAbandoned(modelsFolder);
    const existing = await findInstalledModel(modelsFolder, id);
    const totalBytes = await requireSpace(modelsFolder, source);
    await mkdir(temporary, { mode: 0o700 });
    let copiedBytes = 0;
    const onPiece = (bytes: number) => {
      requireWanted(signal);
      copiedBytes += bytes;
      onProgress?.({ step: 'copying', share: Math.min(1, copiedBytes / Math.max(1, totalBytes)) });
    };
    const files = [];
    for (const name of source.files) files.push(await copyFile(source.folder, temporary, name, onPiece));
    onProgress?.({ step: 'opening', share: 0 });
    const about = { id, licence, format: source.format, options: settings, files };
    const { base: model, alignmentAssumed } = await openNewModel(temporary, about, options.alignment);
    requireWanted(signal);
    if (existing?.sha256 === model.sha256) return existing;
    if (existing !== null) throw taken(id);
    const { alignment } = model;
    const leak = await examine?.(temporary, { ...about, alignment });
    const manifest: ModelManifest = {
      formatVersion: 1,
      id,
      format: source.format,
      sha256: model.sha256,
      ...(source.format === 'onnx' ? { identity: 2 as const } : {}),
      licence,
      inputSize: model.inputSize,
      alignment,
      alignmentAssumed,
      embeddingSize: model.embeddingSize,
      adaptable: adaptableOf(model),
      normalisation:
        model.normalisation === undefined
          ? null
          : { mean: [...model.normalisation.mean], deviation: [...model.normalisation.deviation] },
      ...(model.preprocessing === undefined ? {} : { preprocessing: model.preprocessing }),
      options: settings,
      files,
      importedAt: new Date().toISOString(),
      ...(leak === undefined ? {} : { leak }),
    };
    await writeManifest(temporary, manifest);
    await syncFolder(temporary);
    requireWanted(signal);
    await install(temporary, join(modelsFolder, id), id);
    await syncFolder(modelsFolder);
    return manifest;
  } catch (thrown) {
    throw inWords(thrown);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

function requireWanted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true)
    throw new AppError('CANCELLED', 'The import of the model was stopped; nothing was installed.');
}

function chooseId(given: string | undefined, source: ModelSource, reserved: (id: string) => boolean): string {
  const proposed = given ?? proposeId(source.name);
  if (!modelIdSchema.safeParse(proposed).success) {
    throw new AppError(
      'CONFIG_INVALID',
      `"${proposed}" cannot be the name of a model: expected up to 64 lowercase letters, digits, dots and dashes.`,
      { action: 'Give it another name (--id).' },
    );
  }
  if (reserved(proposed)) throw taken(proposed);
  return proposed;
}

function taken(id: string): AppError {
  return new AppError('CONFIG_INVALID', `Another base model is already called "${id}".`, {
    action: 'Give this one another name (--id).',
  });
}

/** Better now than after minutes of copying; a disk that fills up meanwhile is met as well. @returns bytes to copy */
async function requireSpace(modelsFolder: string, source: ModelSource): Promise<number> {
  let neededBytes = 0;
  for (const name of source.files) neededBytes += await sizeOfSource(join(source.folder, name));
  if (neededBytes > (await freeBytes(modelsFolder))) {
    throw new AppError('DISK_FULL', 'The disk that holds the data folder has no room for this model.');
  }
  return neededBytes;
}

/** Size of a file that can be read. @throws AppError MODEL_FILE_INVALID */
async function sizeOfSource(file: string): Promise<number> {
  const status = await stat(file).catch(() => null);
  const readable = await access(file, constants.R_OK).then(
    () => true,
    () => false,
  );
  if (status?.isFile() === true && readable) return status.size;
  throw invalid(basename(file), status === null ? 'it is missing' : 'expected a plain file that can be read');
}

/** Copies one file and learns its hash on the way. */
async function copyFile(
  from: string,
  to: string,
  name: string,
  onPiece: (bytes: number) => void,
): Promise<ModelManifest['files'][number]> {
  const digest = createHash('sha256');
  let sizeBytes = 0;
  const target = join(to, name);
  await mkdir(dirname(target), { recursive: true, mode: 0o700 });
  const handle = await open(target, 'wx', 0o600);
  try {
    for await (const piece of createReadStream(join(from, name), { highWaterMark: 2 ** 20 })) {
      const bytes = piece as Buffer;
      onPiece(bytes.length);
      digest.update(bytes);
      sizeBytes += bytes.length;
      for (let done = 0; done < bytes.length; ) {
        done += (await handle.write(bytes, done, bytes.length - done)).bytesWritten;
      }
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { name, sizeBytes, sha256: digest.digest('hex') };
}

/** A folder that is there is never replaced: the system refuses to rename over one that is not empty. */
async function install(temporary: string, target: string, id: string): Promise<void> {
  try {
    await rename(temporary, target);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'EPERM') throw taken(id);
    throw error;
  }
}

async function sweepAbandoned(modelsFolder: string): Promise<void> {
  for (const name of await readdir(modelsFolder)) {
    if (!name.startsWith(temporaryPrefix)) continue;
    const folder = join(modelsFolder, name);
    const { mtimeMs } = await stat(folder).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > abandonedAfterMs) await rm(folder, { recursive: true, force: true });
  }
}

/** Problems of the file system in words of where they come from. */
function inWords(thrown: unknown): AppError {
  const error = toAppError(thrown);
  if (error.code !== 'INTERNAL') return error;
  const { code } = thrown as { code?: unknown };
  if (code === 'EFBIG') {
    const message = 'The disk that holds the data folder cannot take a file of this size.';
    return new AppError('DISK_FULL', message, { cause: thrown });
  }
  if (['ENOENT', 'EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'EISDIR'].includes(String(code))) {
    return new AppError('DATA_FOLDER_UNUSABLE', 'The model cannot be copied into the data folder.', {
      cause: thrown,
    });
  }
  return error;
}
