/** Checks a backup without restoring it: every chunk, every hash, the database and its audit trail, and what its rows name. */
import { open } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../shared/errors.ts';
import { databaseVersion, newerDatabase } from '../store/migrations.ts';
import { checkDatabase, type DatabaseCheck } from './check-database.ts';
import type { About } from './entries.ts';
import { checkCancelled, type Steps } from './progress.ts';
import { type OpenBackup, openBackup } from './read-backup.ts';
import { unreadable } from './unreadable.ts';
import { openWorkFolder } from './work-folder.ts';

export interface VerifiedBackup {
  readonly about: About;
  readonly sizeBytes: number;
  readonly files: number;
  /** Files that were missing or damaged already when the backup was made. */
  readonly missing: number;
  readonly auditRows: number;
  readonly auditHead: string;
}

export interface VerifyOptions extends Steps {
  readonly file: string;
  readonly passphrase: string;
  /** An existing folder; the database lies below it, not encrypted, while it is checked. */
  readonly workRoot: string;
}

/** @throws AppError BACKUP_UNREADABLE | PASSPHRASE_WRONG | DATABASE_NEWER | DISK_FULL | CANCELLED */
export async function verifyBackup(options: VerifyOptions): Promise<VerifiedBackup> {
  await using backup = await openBackup(options.file, options.passphrase);
  requireKnown(backup.about);
  await using work = await openWorkFolder(options.workRoot);
  const database = path.join(work.dir, 'anneal.db');
  const blobs = new Set<string>();
  let files = 0;
  for await (const { head, copy } of backup.files()) {
    checkCancelled(options, 'verification');
    if (head.kind === 'blob') blobs.add(head.sha256);
    await using handle = head.kind === 'database' ? await open(database, 'wx', 0o600) : null;
    await copy(async (piece) => {
      checkCancelled(options, 'verification');
      await handle?.writeFile(piece);
      options.onProgress?.({
        phase: 'verifying',
        doneBytes: backup.position,
        totalBytes: backup.sizeBytes,
      });
    });
    files += 1;
  }
  const { auditRows, auditHead } = await checkContents(database, backup, blobs);
  const { about, sizeBytes, missing } = backup;
  return { about, sizeBytes, files, missing: missing.size, auditRows, auditHead };
}

/** @throws AppError DATABASE_NEWER */
export function requireKnown({ databaseVersion: version }: About): void {
  if (version > databaseVersion) throw newerDatabase(version, databaseVersion);
}

/**
 * After all of a backup was read.
 * @param database the one of the backup, as a file that nobody has open @param blobs that the backup holds
 * @throws AppError BACKUP_UNREADABLE | DATABASE_NEWER | DISK_FULL
 */
export async function checkContents(
  database: string,
  { about, missing }: Pick<OpenBackup, 'about' | 'missing'>,
  blobs: ReadonlySet<string>,
): Promise<DatabaseCheck> {
  // An empty file would be taken for a new database.
  if ((await versionOf(database)) !== about.databaseVersion)
    throw unreadable('The database in the backup is not the one that the backup speaks of.');
  const check = await checkDatabase(database).catch((thrown: unknown) => {
    if (thrown instanceof AppError && thrown.code === 'DATABASE_DAMAGED')
      throw unreadable('The database in the backup is damaged.', { cause: thrown });
    throw thrown;
  });
  if (check.brokenAtSeq !== null || !check.consentsFit)
    throw unreadable(
      'The audit trail in the backup is not whole, or its consents are not those that it recorded.',
    );
  if (!check.held.every((sha256) => blobs.has(sha256) || missing.has(sha256)))
    throw unreadable('A file that the database in the backup names is not in it.');
  return check;
}

/** `user_version` in the header of a database; null when it has none. https://www.sqlite.org/fileformat2.html section 1.3 */
async function versionOf(database: string): Promise<number | null> {
  await using handle = await open(database, 'r');
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(100), 0, 100, 0);
  return bytesRead === 100 ? buffer.readInt32BE(60) : null;
}
