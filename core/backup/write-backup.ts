/**
 * Makes a backup while Anneal runs: the database as it is at one moment, the files that its rows name, and the keys. The
 * file gets its name only when it was read back and found whole.
 */
import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, lstat, open, readFile, realpath, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Argon2Cost } from '../people/password-hash.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { moveToNew, syncFolder } from '../store/atomic-file.ts';
import type { DataFolder } from '../store/data-folder.ts';
import { freeBytes } from '../store/free-space.ts';
import { databaseVersion } from '../store/migrations.ts';
import { collectBlobs } from '../store/retention.ts';
import type { Store } from '../store/store.ts';
import { checkDatabase, type DatabaseCheck } from './check-database.ts';
import { type About, createRunningHash, encodeHead, type Head } from './entries.ts';
import { createHeader, type NewHeader } from './header.ts';
import { type ListedFile, listKeys, listModels } from './list-files.ts';
import { checkCancelled, type Steps } from './progress.ts';
import { openBackup } from './read-backup.ts';
import { createSealedWriter, type SealedWriter } from './sealed-file.ts';
import { unreadable } from './unreadable.ts';
import { openWorkFolder } from './work-folder.ts';

export interface BackupSource {
  readonly store: Store;
  readonly data: DataFolder;
  /** What the backup says of where it comes from. */
  readonly origin: Pick<About, 'mode' | 'name' | 'federation' | 'annealVersion'>;
}

export interface BackupOptions extends Steps {
  /** To write; absolute, and not there yet. */
  readonly target: string;
  readonly passphrase: string;
  readonly withModels: boolean;
  /** A smaller one for tests. */
  readonly cost?: Argon2Cost;
  /** Hears the temporary name of the file before it is made, and null when it is gone. */
  onTemporary?(file: string | null): void;
}

export interface WrittenBackup {
  readonly id: string;
  /** The moment that it shows the data folder at. */
  readonly madeAt: string;
  readonly sizeBytes: number;
  readonly files: number;
  /** Files that the database names and that were missing or damaged here: they are not in the backup. */
  readonly missing: number;
  /** Newest row of the audit trail in it. */
  readonly auditHead: string;
}

/**
 * @throws AppError FILE_EXISTS | FILE_UNREADABLE | DISK_FULL | CANCELLED | DATABASE_DAMAGED, when this data folder is
 *   damaged; BACKUP_UNREADABLE when what was written cannot be read. Nothing is left then.
 */
export async function writeBackup(source: BackupSource, options: BackupOptions): Promise<WrittenBackup> {
  const { store, data } = source;
  await checkTarget(options.target, data.dir);
  // What loses its last row while nothing may go, and is not in the copy either.
  const named = store.blobReferences.allHeld();
  // Nothing that a row of the copy names may go before it was read.
  const kept = data.blobs.keep();
  try {
    return await writeFrom(source, options, (held) => {
      for (const sha256 of held) named.add(sha256);
      kept.only(new Set(held));
    });
  } finally {
    kept[Symbol.dispose]();
    // What lost its last row meanwhile.
    await collectBlobs(store, data.blobs, named);
  }
}

async function writeFrom(
  source: BackupSource,
  options: BackupOptions,
  keepOnly: (hashes: readonly string[]) => void,
): Promise<WrittenBackup> {
  const { store, data } = source;
  await using work = await openWorkFolder(data.dir);
  const database = path.join(work.dir, 'anneal.db');
  await store.copyTo(database, (left, all) => {
    checkCancelled(options, 'backup');
    options.onProgress?.({ phase: 'database', doneBytes: all - left, totalBytes: all });
  });
  const madeAt = store.now();
  const check = await checkSource(database);
  keepOnly(check.held);
  const about: About = {
    ...{ kind: 'about', id: randomUUID(), madeAt, databaseVersion, withModels: options.withModels },
    ...source.origin,
  };
  const contents = await listContents(source, { database, held: check.held, withModels: options.withModels });
  const temporary = `${options.target}.${randomUUID()}.tmp`;
  options.onTemporary?.(temporary);
  try {
    await checkSpace(options.target, contents.bytes);
    const written = await writeEntries(temporary, about, contents, options);
    await readBack(temporary, contents.bytes, options, written);
    checkCancelled(options, 'backup');
    await moveToNew(temporary, options.target).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'EEXIST' ? taken(error) : error;
    });
    await rm(temporary, { force: true });
    await syncFolder(path.dirname(options.target));
    const { size } = await stat(options.target);
    const { files, missing } = written;
    return { id: about.id, madeAt, sizeBytes: size, files, missing, auditHead: check.auditHead };
  } catch (thrown) {
    throw inWords(thrown);
  } finally {
    await rm(temporary, { force: true }).catch(() => {});
    options.onTemporary?.(null);
  }
}

const taken = (cause?: unknown) =>
  new AppError('FILE_EXISTS', 'There is a file of that name already.', {
    action: 'Choose another name: a backup never replaces one.',
    cause,
  });

/** Before anything is copied. */
async function checkTarget(target: string, dataFolder: string): Promise<void> {
  if (!path.isAbsolute(target))
    throw new AppError('CONFIG_INVALID', 'The file of the backup needs its whole path, with all folders.', {
      action: 'Give the path from the root of the disk on.',
    });
  const folder = path.dirname(target);
  if ((await stat(folder).catch(() => null))?.isDirectory() !== true)
    throw new AppError('FILE_UNREADABLE', 'The folder for the backup does not exist.', {
      action: 'Check the path, and that the disk or share is connected.',
    });
  const within = path.relative(await realpath(dataFolder), await realpath(folder));
  if (within.split(path.sep)[0] !== '..' && !path.isAbsolute(within))
    throw new AppError('CONFIG_INVALID', 'A backup inside the data folder would be lost together with it.', {
      action: 'Choose a folder on another disk.',
    });
  if ((await lstat(target).catch(() => null)) !== null) throw taken();
}

/** What is damaged here must not push out older backups that are whole. */
async function checkSource(database: string): Promise<DatabaseCheck> {
  const check = await checkDatabase(database);
  const keep =
    'Keep the backups that you have. See "anneal audit verify", and restore the newest backup that is whole.';
  if (check.brokenAtSeq !== null)
    throw new AppError(
      'DATABASE_DAMAGED',
      `No backup was made: row ${check.brokenAtSeq} of the audit trail was changed, or one before it is missing.`,
      { action: keep },
    );
  if (!check.consentsFit)
    throw new AppError(
      'DATABASE_DAMAGED',
      'No backup was made: the consents are not those that the audit trail recorded.',
      {
        action: keep,
      },
    );
  return check;
}

interface Contents {
  readonly listed: readonly ListedFile[];
  /** Blobs that a row names, in order of hash. */
  readonly held: readonly string[];
  readonly models: readonly ListedFile[];
  /** Of all files. */
  readonly bytes: number;
  pathOf(sha256: string): string | null;
}

/** How many files are asked for their size before others get their turn. */
const atOnce = 500;

async function listContents(
  { data }: BackupSource,
  { database, held, withModels }: { database: string; held: readonly string[]; withModels: boolean },
): Promise<Contents> {
  const { size } = await stat(database);
  const listed: ListedFile[] = [
    { head: { kind: 'database', size }, file: database },
    ...(await listKeys(data)),
  ];
  const models = withModels ? await listModels(data) : [];
  let bytes = [...listed, ...models].reduce((sum, { head }) => sum + head.size, 0);
  const { blobs } = data;
  const sorted = [...held].sort();
  for (const [index, sha256] of sorted.entries()) {
    if (index % atOnce === 0) await nextTurn();
    if (blobs.has(sha256)) bytes += blobs.sizeBytes(sha256);
  }
  return {
    ...{ listed, models, bytes, held: sorted },
    pathOf: (sha256) => (blobs.has(sha256) ? blobs.path(sha256) : null),
  };
}

/** Now rather than after an hour of copying; a disk that fills up meanwhile is met as well. */
async function checkSpace(target: string, bytes: number): Promise<void> {
  if (bytes > (await freeBytes(path.dirname(target)))) throw diskFull();
}

const diskFull = (cause?: unknown) =>
  new AppError('DISK_FULL', 'The disk that the backup is written to has no room for it.', {
    action:
      'Free some space there, for instance by deleting older backups, or choose another disk. Nothing was left there.',
    cause,
  });

interface WrittenEntries {
  readonly header: NewHeader;
  readonly files: number;
  readonly missing: number;
}

async function writeEntries(
  temporary: string,
  about: About,
  contents: Contents,
  options: BackupOptions,
): Promise<WrittenEntries> {
  const header = await createHeader(options.passphrase, options.cost);
  await using handle = await openTemporary(temporary);
  const written = onTarget(handle);
  await written.writeFile(header.bytes);
  const entries = createEntryWriter(createSealedWriter(written, header.streamKey), contents.bytes, options);
  await entries.say(about);
  for (const file of contents.listed) await entries.addFile(file);
  const missing: string[] = [];
  for (const sha256 of contents.held) {
    const file = contents.pathOf(sha256);
    if (file === null || !(await entries.addBlob(sha256, file))) missing.push(sha256);
  }
  for (const sha256 of missing) await entries.say({ kind: 'missing', sha256 });
  for (const file of contents.models) await entries.addFile(file);
  await entries.end();
  await handle.sync().catch(failedOnTarget);
  return { header, files: entries.files, missing: missing.length };
}

const openTemporary = (file: string): Promise<FileHandle> => open(file, 'wx', 0o600).catch(failedOnTarget);

/** Faults of the disk that takes the backup are told apart from those of the data folder's. */
const onTarget = (handle: FileHandle): Pick<FileHandle, 'writeFile'> => ({
  writeFile: (bytes) => handle.writeFile(bytes).catch(failedOnTarget),
});

function failedOnTarget(cause: unknown): never {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') throw diskFull(cause);
  if (code === 'EFBIG')
    throw new AppError(
      'DISK_FULL',
      'The disk that the backup is written to cannot take a file of this size.',
      {
        action: 'Choose a disk with another file system than FAT32, such as exFAT.',
        cause,
      },
    );
  throw new AppError('FILE_UNREADABLE', 'The backup cannot be written there.', {
    action: 'Check that you may write to that folder, and that the disk or share is still connected.',
    cause,
  });
}

/** Files up to this size are hashed in memory before they are written; larger ones are read twice. */
const inMemoryBytes = 8 * 2 ** 20;
const readBytes = 2 ** 20;

function createEntryWriter(sealed: SealedWriter, totalBytes: number, options: BackupOptions) {
  const running = createRunningHash();
  let entries = 0;
  let files = 0;
  let bytes = 0;
  async function say(head: Head): Promise<void> {
    const encoded = encodeHead(head);
    if (head.kind !== 'end') running.update(encoded.subarray(2));
    await sealed.write(encoded);
    if (head.kind === 'about' || head.kind === 'missing') entries += 1;
  }
  async function add(
    head: ListedFile['head'],
    pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  ): Promise<void> {
    await say(head);
    const digest = createHash('sha256');
    let left = head.size;
    for await (const piece of pieces) {
      checkCancelled(options, 'backup');
      left -= piece.length;
      if (left < 0) break;
      digest.update(piece);
      await sealed.write(piece);
      bytes += piece.length;
      // Half of the work is writing, the other half is reading it back.
      options.onProgress?.({ phase: 'copying', doneBytes: bytes, totalBytes: 2 * totalBytes });
    }
    const sha256 = digest.digest();
    const isWhole = left === 0 && (head.kind !== 'blob' || head.sha256 === sha256.toString('hex'));
    if (!isWhole) throw changed();
    running.update(sha256);
    await sealed.write(sha256);
    entries += 1;
    files += 1;
  }
  return {
    get files() {
      return files;
    },
    say,
    addFile: ({ head, file }: ListedFile) => add(head, piecesOf(file)),
    /** False when the file cannot be read, or is not what its name says: then it is not written. */
    async addBlob(sha256: string, file: string): Promise<boolean> {
      checkCancelled(options, 'backup');
      const found = await readVerified(file, sha256).catch(() => null);
      if (found === null) return false;
      await add({ kind: 'blob', sha256, size: found.size }, found.bytes ?? piecesOf(file));
      return true;
    },
    async end(): Promise<void> {
      await say({ kind: 'end', entries, files, bytes, sha256: running.digest('hex') });
      await sealed.finish();
    },
  };
}

async function* piecesOf(file: string): AsyncGenerator<Buffer> {
  await using handle = await open(file, 'r');
  for (;;) {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(readBytes), 0, readBytes, null);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

/** `bytes`: where they are few enough to be kept until they are written. Null when they are not what the hash says. */
async function readVerified(
  file: string,
  sha256: string,
): Promise<{ size: number; bytes: Buffer[] | null } | null> {
  const { size } = await stat(file);
  const digest = createHash('sha256');
  const bytes = size <= inMemoryBytes ? [await readFile(file)] : null;
  for await (const piece of bytes ?? piecesOf(file)) digest.update(piece);
  return digest.digest('hex') === sha256 ? { size, bytes } : null;
}

const changed = () =>
  new AppError('DATA_FOLDER_UNUSABLE', 'A file of the data folder changed while it was being copied.', {
    action: 'Make the backup again; if this happens again, check the disk that holds the data folder.',
  });

/** Opens every chunk and compares every hash with what is on the disk now. */
async function readBack(
  temporary: string,
  totalBytes: number,
  options: BackupOptions,
  expected: WrittenEntries,
): Promise<void> {
  await using backup = await openBackup(temporary, expected.header);
  let files = 0;
  let bytes = 0;
  for await (const file of backup.files()) {
    await file.copy((piece) => {
      checkCancelled(options, 'backup');
      bytes += piece.length;
      options.onProgress?.({ phase: 'verifying', doneBytes: totalBytes + bytes, totalBytes: 2 * totalBytes });
    });
    files += 1;
  }
  if (files !== expected.files || backup.missing.size !== expected.missing)
    throw unreadable('The backup holds other files than were written.');
}

/** What cannot be read of a backup that was written a moment ago says something of the disk. */
function inWords(thrown: unknown): AppError {
  const error = toAppError(thrown);
  if (error.code !== 'BACKUP_UNREADABLE' && error.code !== 'PASSPHRASE_WRONG') return error;
  return unreadable('The backup could not be read back as it was written, so it was deleted.', {
    action: 'Choose another disk: this one does not give back what it is given.',
    cause: thrown,
  });
}
