/** Whether the parts of a data folder belong together, before anything is made in it that would hide what is missing. */
import { existsSync, readdirSync, renameSync, rmdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { AppError } from '../shared/errors.ts';
import { anchorName } from '../store/anchor.ts';
import { type DataFolder, lockDataFolder } from '../store/data-folder.ts';
import { makeFolder } from '../store/make-folder.ts';
import type { Identity } from './identity.ts';

/** A file that a process was writing when it died is no key. */
const keysIn = ({ keysDir }: Pick<DataFolder, 'keysDir'>): string[] =>
  readdirSync(keysDir).filter((name) => !name.endsWith('.tmp'));

/**
 * Call it before the database is opened, which would make one.
 * @throws AppError DATABASE_MISSING when there is none beside files that only an installation with one has
 */
export function requireDatabase(data: DataFolder): void {
  const size = statSync(data.dbFile, { throwIfNoEntry: false })?.size;
  if (size !== undefined && size > 0) return;
  // The anchor is held against whatever is opened; a database that was never written to is not there either way.
  const left = [
    ...(keysIn(data).length > 0 ? ['keys'] : []),
    ...(existsSync(path.join(data.dir, anchorName)) ? ['the anchor of the audit trail'] : []),
    ...(data.blobs.list().length > 0 ? ['images or models'] : []),
  ];
  if (left.length === 0) return;
  throw new AppError(
    'DATABASE_MISSING',
    `The database of this data folder is ${size === undefined ? 'missing' : 'empty'}, but there are ${left.join(', ')}.`,
  );
}

/**
 * A database without an installation beside the files of one: joining that was broken off leaves keys, and nothing else.
 * @throws AppError DATABASE_MISSING
 */
export function requireOwnDatabase(data: DataFolder, identity: Identity | null): void {
  if (identity !== null || keysIn(data).length === 0 || data.blobs.list().length === 0) return;
  throw new AppError(
    'DATABASE_MISSING',
    'The database of this data folder is new, but there are keys and images or models of an installation.',
  );
}

/** Files of the keys folder that an installation with a role has; `…-key.pem` are the private keys. */
export const keyFilesOf: Record<Identity['mode'], readonly string[]> = {
  site: ['membership.json', 'signing-key.pem', 'tls-key.pem'],
  coordinator: ['signing-key.pem', 'authority-key.pem', 'authority.pem'],
};

/** Of an installation that has its role already. @throws AppError KEYS_MISSING */
export function requireKeys(data: Pick<DataFolder, 'keysDir'>, { mode }: Identity): void {
  const missing = keyFilesOf[mode].filter((name) => !existsSync(path.join(data.keysDir, name)));
  if (missing.length === 0) return;
  const [file] = missing;
  throw new AppError(
    'KEYS_MISSING',
    missing.length === 1
      ? `The key file "${file}" of this installation is missing from the folder "keys".`
      : `${missing.length} key files of this installation are missing from the folder "keys", "${file}" among them.`,
  );
}

/** What an installation is; logs and imported base models say nothing of it and stay. */
const ofInstallation = [
  ...['anneal.db', 'anneal.db-wal', 'anneal.db-shm', anchorName],
  ...['keys', 'blobs', 'crops', 'training', 'reserve'],
];

/** Some of it is in every data folder that was used, and in no other one: `keys` or `training` may be anybody's. */
const signs = [
  ...['anneal.db', anchorName, 'keys/signing-key.pem', 'keys/membership.json', 'keys/authority.pem'],
  'blobs/partial',
];

/**
 * Moves all that makes an installation into a folder of its own inside the data folder; nothing is deleted.
 * @returns its path, or null when there was nothing to move
 * @throws AppError DATA_FOLDER_IN_USE | DATA_FOLDER_UNUSABLE; everything is where it was then
 */
export function setInstallationAside(dataFolder: string, now = new Date()): string | null {
  if (!signs.some((name) => existsSync(path.join(dataFolder, name)))) return null;
  const lock = lockDataFolder(dataFolder);
  try {
    const found = ofInstallation.filter((name) => existsSync(path.join(dataFolder, name)));
    const aside = path.join(dataFolder, `set-aside-${now.toISOString().replaceAll(/[:.]/g, '-')}`);
    makeFolder(aside, { mode: 0o700 });
    // The database last: while it is there, a process that died here finds an installation that lacks files, and says so.
    moveAll(
      [...found].sort((a, b) => Number(a === 'anneal.db') - Number(b === 'anneal.db')),
      dataFolder,
      aside,
    );
    return aside;
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError('DATA_FOLDER_UNUSABLE', 'The old files cannot be moved within the data folder.', {
      cause,
    });
  } finally {
    lock.release();
  }
}

/** All of them or none: a folder of these may be a disk of its own, which does not move. @throws the system's error */
function moveAll(names: readonly string[], from: string, to: string): void {
  const moved: string[] = [];
  try {
    for (const name of names) {
      renameSync(path.join(from, name), path.join(to, name));
      moved.push(name);
    }
  } catch (thrown) {
    for (const name of moved.reverse()) renameSync(path.join(to, name), path.join(from, name));
    rmdirSync(to);
    throw thrown;
  }
}
