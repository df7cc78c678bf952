/**
 * Where libtensorflow and the addon that binds it to Node lie, once `npm run setup:tensorflow` has put them
 * there: in a folder of the user's, not in node_modules, which every `npm ci` empties.
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { AppError } from '../../shared/errors.ts';

/** Names the folder when it is not the usual one. */
export const folderVariable = 'ANNEAL_TENSORFLOW';

const manifestName = 'installation.json';

const manifestSchema = z.object({
  /** Path of the addon inside the folder. */
  addon: z.string().regex(/^[\w./-]+\.node$/),
  /** Version of libtensorflow as it says itself. */
  tensorflow: z.string(),
  source: z.enum(['downloaded', 'folder']),
});

export type InstallationManifest = z.infer<typeof manifestSchema>;

export interface Installation extends InstallationManifest {
  readonly folder: string;
  /** Absolute path of the addon. */
  readonly addonFile: string;
}

/** The folder beside Anneal's data folder of this user, or what ANNEAL_TENSORFLOW says. */
export function tensorFlowFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const given = environment[folderVariable];
  if (given) return given;
  const home = homedir();
  if (process.platform === 'win32') {
    return join(environment['LOCALAPPDATA'] ?? join(home, 'AppData', 'Local'), 'Anneal', 'tensorflow');
  }
  if (process.platform === 'darwin') {
    return join(home, 'Library', 'Application Support', 'Anneal', 'tensorflow');
  }
  return join(environment['XDG_DATA_HOME'] ?? join(home, '.local', 'share'), 'Anneal', 'tensorflow');
}

export function manifestFile(folder: string): string {
  return join(folder, manifestName);
}

/**
 * What is installed in `folder`, or undefined when nothing is.
 * @throws AppError DEVICE_UNAVAILABLE when the folder holds only a part of it
 */
export function readInstallation(folder: string): Installation | undefined {
  const file = manifestFile(folder);
  if (!existsSync(file)) return undefined;
  let manifest: InstallationManifest;
  try {
    manifest = manifestSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (cause) {
    throw damaged(cause);
  }
  const addonFile = join(folder, manifest.addon);
  if (!existsSync(addonFile)) throw damaged();
  return { ...manifest, folder, addonFile };
}

function damaged(cause?: unknown): AppError {
  return new AppError('DEVICE_UNAVAILABLE', 'The installed TensorFlow library is incomplete.', {
    action: 'Run "npm run setup:tensorflow" again.',
    cause,
  });
}
