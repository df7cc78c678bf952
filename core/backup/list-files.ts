/** Which files of a data folder belong into a backup. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { findInstalledModel, listModelFolders, manifestName } from '../models/installed-models.ts';
import { AppError } from '../shared/errors.ts';
import type { DataFolder } from '../store/data-folder.ts';
import { type FileHead, keyNameSchema, modelFileSchema, mostKeyBytes } from './entries.ts';

export interface ListedFile {
  readonly head: FileHead;
  readonly file: string;
}

/** @throws AppError DATA_FOLDER_UNUSABLE when the keys folder holds what Anneal did not put there */
export async function listKeys({ keysDir }: Pick<DataFolder, 'keysDir'>): Promise<ListedFile[]> {
  const entries = await readdir(keysDir, { withFileTypes: true });
  const files: ListedFile[] = [];
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    // Of a process that was killed while it wrote one.
    if (entry.name.endsWith('.tmp')) continue;
    const file = path.join(keysDir, entry.name);
    const { size } = await stat(file);
    if (!entry.isFile() || !keyNameSchema.safeParse(entry.name).success || size > mostKeyBytes)
      throw new AppError(
        'DATA_FOLDER_UNUSABLE',
        'The folder "keys" holds something that Anneal did not write.',
        {
          action: 'Look into the folder "keys" of the data folder, and move away what does not belong there.',
        },
      );
    files.push({ head: { kind: 'key', name: entry.name, size }, file });
  }
  return files;
}

/** Models that cannot be read are left out, as everywhere. */
export async function listModels({ modelsDir }: Pick<DataFolder, 'modelsDir'>): Promise<ListedFile[]> {
  const listed: ListedFile[] = [];
  for (const model of await listModelFolders(modelsDir)) {
    const manifest = await findInstalledModel(modelsDir, model).catch(() => null);
    if (manifest === null) continue;
    for (const name of [manifestName, ...manifest.files.map((part) => part.name)]) {
      const file = path.join(modelsDir, model, name);
      if (!modelFileSchema.safeParse(name).success) throw oddName(model);
      const { size } = await stat(file);
      listed.push({ head: { kind: 'model', model, file: name, size }, file });
    }
  }
  return listed;
}

const oddName = (model: string) =>
  new AppError(
    'MODEL_FILE_INVALID',
    `A file of the model "${model}" has a name that not every system takes.`,
    {
      action: 'Make the backup without models (--without-models), and keep the files of the model elsewhere.',
    },
  );
