/** Puts an installation of libtensorflow together beside its folder, tries it out and exchanges it in one step. */
import { existsSync, rmSync } from 'node:fs';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  type InstallationManifest,
  manifestFile,
  readInstallation,
} from '../../core/engine/tensorflow/installation.ts';
import { probeNative } from '../../core/engine/tensorflow/probe.ts';
import { AppError, toAppError } from '../../core/shared/errors.ts';

export interface InstalledTensorFlow {
  readonly version: string;
  readonly usesGpu: boolean;
  /** Libraries for graphics processors that it looked for in vain. */
  readonly missing: readonly string[];
}

/** What is installed in a folder and loads; undefined when nothing is, or it does not load. */
export async function workingInstallation(folder: string): Promise<InstalledTensorFlow | undefined> {
  try {
    if (readInstallation(folder) === undefined) return undefined;
  } catch {
    return undefined;
  }
  const answer = await probeNative('cuda', folder);
  return 'failure' in answer ? undefined : { ...answer.report, missing: answer.missing };
}

/**
 * @param folder where it is to be; what works there stays until the new one has proved itself
 * @param fill puts libraries and addon into the empty folder it is given and returns the addon's path in it
 * @throws AppError DISK_FULL, DATA_FOLDER_UNUSABLE, DEVICE_UNAVAILABLE when the library does not load, and what `fill` throws
 */
export async function installTensorFlow(
  folder: string,
  source: InstallationManifest['source'],
  fill: (staging: string) => Promise<string>,
): Promise<InstalledTensorFlow> {
  const staging = `${folder}.new-${process.pid}`;
  const removeStaging = () => rmSync(staging, { recursive: true, force: true });
  process.once('exit', removeStaging);
  // Without a handler these end the process before the staging folder is gone.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  try {
    await checkReplaceable(folder);
    await mkdir(staging, { recursive: true });
    const addon = await fill(staging);
    const writeManifest = (tensorflow: string) =>
      writeFile(manifestFile(staging), `${JSON.stringify({ addon, tensorflow, source })}\n`);
    await writeManifest('unknown');
    const answer = await probeNative('cuda', staging);
    if ('failure' in answer) throw unusable(answer.failure);
    await writeManifest(answer.report.version);
    await exchange(staging, folder);
    return { ...answer.report, missing: answer.missing };
  } catch (thrown) {
    throw asPlainError(thrown);
  } finally {
    removeStaging();
    process.removeListener('exit', removeStaging);
  }
}

/** A folder with something else in it (a typing mistake after --to) is not thrown away. */
async function checkReplaceable(folder: string): Promise<void> {
  if (!existsSync(folder) || existsSync(manifestFile(folder))) return;
  if ((await readdir(folder)).length === 0) return;
  throw new AppError(
    'CONFIG_INVALID',
    `The folder "${basename(folder)}" holds something else than TensorFlow.`,
    {
      action: 'Name an empty or a new folder with --to.',
    },
  );
}

async function exchange(staging: string, folder: string): Promise<void> {
  const old = join(dirname(folder), `${basename(folder)}.old-${process.pid}`);
  if (existsSync(folder)) await rename(folder, old);
  try {
    await rename(staging, folder);
  } catch (cause) {
    if (existsSync(old)) await rename(old, folder);
    throw cause;
  }
  await rm(old, { recursive: true, force: true });
}

function unusable(failure: string): AppError {
  return new AppError('DEVICE_UNAVAILABLE', failure, {
    action: 'Use a libtensorflow for this system (2.9 or newer); nothing was changed.',
  });
}

function asPlainError(thrown: unknown): AppError {
  const code = (thrown as { code?: unknown } | null)?.code;
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return new AppError(
      'DATA_FOLDER_UNUSABLE',
      'TensorFlow cannot be installed: its folder cannot be written.',
      {
        action: 'Choose another folder with --to and set ANNEAL_TENSORFLOW to it.',
        cause: thrown,
      },
    );
  }
  return toAppError(thrown);
}
