/** Finding and reading the files of an import: nothing outside the image folder, whatever links or names say. */
import { constants, type Stats } from 'node:fs';
import { open, realpath, stat } from 'node:fs/promises';
import { basename, join, sep } from 'node:path';
import pMap from 'p-map';
import { AppError, toAppError } from '../shared/errors.ts';
import { defaultDecodeLimits, tooLargeFile } from './decode.ts';
import type { LabelRow } from './tables/rows.ts';

export interface ImageFolder {
  /** @throws AppError IMAGES_MISSING | IMAGE_UNREADABLE | IMAGE_TOO_LARGE for this file alone */
  read(file: string): Promise<Uint8Array>;
  /** Why {@link read} would refuse the file, as far as it is seen without reading it; null when it would not. */
  problemOf(file: string): Promise<AppError | null>;
}

const atOnce = 8;
/** Neither of them is there on Windows: links are told from the real path alone. A pipe must not be waited for. */
const openFlags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/**
 * @throws AppError IMAGES_MISSING when the folder is not there, or holds none of the files: then the folder is the
 *   wrong one, and nothing is to be imported
 */
export async function openImageFolder(folder: string, rows: readonly LabelRow[]): Promise<ImageFolder> {
  const root = await realpath(folder).catch(() => null);
  if (root === null || !(await stat(root)).isDirectory())
    throw new AppError('IMAGES_MISSING', `The image folder "${basename(folder)}" does not exist.`);
  const found = await pMap(rows, ({ file }) => findFile(root, file), { concurrency: atOnce });
  const [first, ...others] = rows;
  if (first && found.every((path) => path === null)) {
    const more = others.length > 0 ? `, nor is any other` : '';
    throw new AppError(
      'IMAGES_MISSING',
      `The image "${first.file}" of line ${first.line} is not in the image folder${more}.`,
    );
  }
  return { read: (file) => readImage(root, file), problemOf: (file) => problemOf(root, file) };
}

/** Names come with accents in one piece or in two, as the system that wrote them likes it: either finds the other. */
async function findFile(root: string, file: string): Promise<string | null> {
  for (const name of new Set([file, file.normalize('NFC'), file.normalize('NFD')])) {
    const path = join(root, name);
    if (await stat(path).then(() => true, isThereButBarred)) return path;
  }
  return null;
}

const isThereButBarred = (error: NodeJS.ErrnoException) =>
  error.code === 'EACCES' || error.code === 'EPERM' || error.code === 'ELOOP';

/** @throws AppError IMAGES_MISSING | IMAGE_UNREADABLE; errors of the system */
async function realFile(root: string, file: string): Promise<string> {
  const name = basename(file);
  const path = await findFile(root, file);
  if (path === null) throw missing(name);
  const real = await realpath(path);
  if (!real.startsWith(root.endsWith(sep) ? root : root + sep))
    throw unreadable(name, 'is, or lies behind, a link that leads out of the image folder');
  return real;
}

async function problemOf(root: string, file: string): Promise<AppError | null> {
  const name = basename(file);
  try {
    checkFile(await stat(await realFile(root, file)), name);
    return null;
  } catch (error) {
    return toAppError(asImageError(error, name));
  }
}

async function readImage(root: string, file: string): Promise<Uint8Array> {
  const name = basename(file);
  try {
    const real = await realFile(root, file);
    const opened = await open(real, openFlags);
    try {
      // Of what was opened, not of what was looked at before.
      checkFile(await opened.stat(), name);
      return await opened.readFile();
    } finally {
      await opened.close();
    }
  } catch (error) {
    throw asImageError(error, name);
  }
}

function checkFile(status: Stats, name: string): void {
  if (status.isDirectory()) throw unreadable(name, 'is a folder');
  if (!status.isFile()) throw unreadable(name, 'is not an ordinary file');
  if (status.size > defaultDecodeLimits.maxFileBytes) throw tooLargeFile(name);
}

const missing = (name: string) =>
  new AppError('IMAGES_MISSING', `The image "${name}" is not in the image folder.`);

const unreadable = (name: string, words: string, cause?: unknown) =>
  new AppError('IMAGE_UNREADABLE', `The file "${name}" ${words}.`, {
    action: 'Put the image itself into the folder, check that you may read it, and import again.',
    cause,
  });

/** What says nothing about this file, such as too many open files, is thrown as it came and ends the import. */
function asImageError(error: unknown, name: string): unknown {
  if (error instanceof AppError) return error;
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ENAMETOOLONG':
      return missing(name);
    case 'EACCES':
    case 'EPERM':
      return unreadable(name, 'may not be read by the account that Anneal runs under', error);
    case 'ELOOP':
      return unreadable(name, 'is a link that leads nowhere', error);
    case 'EISDIR':
      return unreadable(name, 'is a folder', error);
    case 'EIO':
    case 'EBADMSG':
    case 'ESTALE':
    case 'ENXIO':
      return unreadable(name, 'could not be read from the disk', error);
    default:
      return error;
  }
}
