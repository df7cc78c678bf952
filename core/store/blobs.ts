/** Blobs on disk, see blob-store.ts. `<dir>/partial` holds transfers under way, `<dir>/damaged` what failed its hash. */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import pMap from 'p-map';
import { AppError, toAppError } from '../shared/errors.ts';
import { sha256 as hashOf } from '../shared/hash.ts';
import { syncFolder } from './atomic-file.ts';
import type { BlobStore } from './blob-store.ts';
import { onDisk } from './disk-errors.ts';
import type { Durability } from './open-database.ts';
import { openPartialBlob } from './partial-blob.ts';

const hashPattern = /^[0-9a-f]{64}$/;
const temporaryPattern = /^[0-9a-f-]{36}\.tmp$/;
/** Temporary files this old belong to a process that died. */
const abandonedAfterMs = 3_600_000;
/** The disk takes several requests together; more would leave none of Node's four threads for other files. */
const foldersAtOnce = 3;
/** Read at once when a file is hashed. */
const readBytes = 2 ** 20;

/**
 * Makes the folders where missing. One process at a time may write (see `lockDataFolder`).
 * @param durability what finished blobs survive; `process` leaves it to the system when they reach the disk
 * @throws AppError DATA_FOLDER_UNUSABLE | DISK_FULL
 */
export function createBlobStore(
  dir: string,
  { durability = 'power-cut' }: { durability?: Durability } = {},
): BlobStore {
  const flush = durability === 'power-cut';
  const folders = { partial: path.join(dir, 'partial'), damaged: path.join(dir, 'damaged') };
  try {
    for (const folder of Object.values(folders)) mkdirSync(folder, { recursive: true, mode: 0o700 });
    removeAbandoned(folders.partial);
  } catch (thrown) {
    const error = toAppError(thrown);
    if (error.code === 'DISK_FULL') throw error;
    throw new AppError('DATA_FOLDER_UNUSABLE', 'The blob folder cannot be written to.', { cause: thrown });
  }
  /** Folders with blobs whose names may not be on the disk yet. */
  const unsettledFolders = new Set<string>();
  let settling: Promise<unknown> = Promise.resolve();
  /** What was put while somebody held. */
  const held = new Set<string>();
  let holders = 0;
  const transfers = new Set<{ sha256: string }>();
  /** What is kept; null: everything. */
  const keepers = new Set<{ hashes: ReadonlySet<string> | null }>();
  /** Temporary files that this store is writing or deleting now. */
  const underWay = new Set<string>();
  const temporaryFile = () => path.join(folders.partial, `${randomUUID()}.tmp`);
  async function withTemporary<T>(work: (file: string) => Promise<T>): Promise<T> {
    const file = temporaryFile();
    underWay.add(path.basename(file));
    try {
      return await work(file);
    } finally {
      underWay.delete(path.basename(file));
    }
  }
  const placeOf = (sha256: string) => path.join(dir, sha256.slice(0, 2), sha256);
  const has = (sha256: string) => hashPattern.test(sha256) && existsSync(placeOf(sha256));
  const existing = (sha256: string) => {
    if (!has(sha256)) throw new AppError('NOT_FOUND', `There is no blob ${sha256.slice(0, 12)}.`);
    return placeOf(sha256);
  };
  return {
    has,
    path: existing,
    sizeBytes: (sha256) => statSync(existing(sha256)).size,
    async put(bytes, { unsettled = false } = {}) {
      const sha256 = hashOf(bytes);
      if (holders > 0) held.add(sha256);
      if (has(sha256)) return sha256;
      const place = placeOf(sha256);
      const synced = { file: flush, folder: flush && !unsettled };
      await onDisk(() => withTemporary((temporary) => writeWhole(bytes, place, temporary, synced)));
      if (flush && unsettled) unsettledFolders.add(path.dirname(place));
      return sha256;
    },
    async settle() {
      const settleFolder = async (folder: string) => {
        unsettledFolders.delete(folder);
        await syncFolder(folder).catch((thrown) => {
          unsettledFolders.add(folder);
          throw thrown;
        });
      };
      // One after the other: what another call is syncing is not settled yet.
      const before = settling;
      settling = onDisk(async () => {
        await before.catch(() => {});
        await pMap([...unsettledFolders], settleFolder, { concurrency: foldersAtOnce });
      });
      await settling;
    },
    async read(sha256) {
      const file = existing(sha256);
      const bytes = await readFile(file);
      if (hashOf(bytes) === sha256) return bytes;
      await rename(file, path.join(folders.damaged, sha256));
      throw new AppError(
        'BLOB_CORRUPT',
        `Blob ${sha256.slice(0, 12)} is damaged on this disk; Anneal has set it aside.`,
      );
    },
    async verify(sha256) {
      if (!has(sha256)) return false;
      const file = placeOf(sha256);
      if ((await hashOfFile(file)) === sha256) return true;
      await rename(file, path.join(folders.damaged, sha256));
      return false;
    },
    async openPartial(sha256, sizeBytes, chunkBytes) {
      if (!hashPattern.test(sha256)) throw new AppError('BLOB_CORRUPT', 'The blob has no valid hash.');
      const transfer = { sha256 };
      const ended = () => void transfers.delete(transfer);
      transfers.add(transfer);
      const opening = onDisk(() =>
        openPartialBlob({
          sizeBytes,
          chunkBytes,
          dataFile: path.join(folders.partial, sha256),
          journalFile: path.join(folders.partial, `${sha256}.journal`),
          flush,
          isComplete: () => has(sha256),
          finish: (dataFile) => moveVerified(dataFile, sha256, placeOf(sha256), flush),
        }),
      );
      opening.catch(ended);
      const partial = await opening;
      return {
        ...partial,
        complete: () => partial.complete().finally(ended),
        suspend: () => partial.suspend().finally(ended),
      };
    },
    list: () =>
      readdirSync(dir)
        .filter((folder) => /^[0-9a-f]{2}$/.test(folder))
        .flatMap((folder) => readdirSync(path.join(dir, folder)))
        .filter((name) => hashPattern.test(name)),
    unfinished: () => readdirSync(folders.partial).filter((name) => hashPattern.test(name)),
    async deleteLeftovers() {
      const left = readdirSync(folders.partial).filter(
        (name) => temporaryPattern.test(name) && !underWay.has(name),
      );
      for (const name of left) await rm(path.join(folders.partial, name), { force: true });
    },
    hold() {
      holders += 1;
      let isReleased = false;
      return {
        [Symbol.dispose]() {
          if (isReleased) return;
          isReleased = true;
          holders -= 1;
          if (holders === 0) held.clear();
        },
      };
    },
    keep() {
      const keeper: { hashes: ReadonlySet<string> | null } = { hashes: null };
      keepers.add(keeper);
      return {
        only(hashes) {
          keeper.hashes = hashes;
        },
        [Symbol.dispose]: () => void keepers.delete(keeper),
      };
    },
    isInUse: (sha256) =>
      held.has(sha256) ||
      [...transfers].some((transfer) => transfer.sha256 === sha256) ||
      (has(sha256) && [...keepers].some(({ hashes }) => hashes === null || hashes.has(sha256))),
    async delete(sha256) {
      if (!hashPattern.test(sha256)) return;
      const data = path.join(folders.partial, sha256);
      const damaged = path.join(folders.damaged, sha256);
      const files = [placeOf(sha256), `${data}.journal`, data, damaged].filter((file) => existsSync(file));
      // Moved away in this very turn: whoever comes next finds it gone, however long a large file takes.
      const doomed = files.map((file) => {
        const name = temporaryFile();
        renameSync(file, name);
        return name;
      });
      for (const file of doomed) await rm(file, { force: true });
    },
  };
}

async function writeWhole(
  bytes: Uint8Array,
  place: string,
  temporary: string,
  flush: { file: boolean; folder: boolean },
): Promise<void> {
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(bytes);
      if (flush.file) await file.sync();
    } finally {
      await file.close();
    }
    await moveIntoPlace(temporary, place, flush.folder);
  } catch (thrown) {
    await rm(temporary, { force: true });
    throw thrown;
  }
}

async function hashOfFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(file, { highWaterMark: readBytes }))
    hash.update(piece as Uint8Array);
  return hash.digest('hex');
}

async function moveVerified(dataFile: string, sha256: string, place: string, flush: boolean): Promise<void> {
  if ((await hashOfFile(dataFile)) !== sha256) {
    throw new AppError('BLOB_CORRUPT', `Blob ${sha256.slice(0, 12)} arrived damaged.`);
  }
  await moveIntoPlace(dataFile, place, flush);
}

async function moveIntoPlace(file: string, place: string, flush: boolean): Promise<void> {
  const folder = path.dirname(place);
  try {
    await rename(file, place);
  } catch (thrown) {
    // The first blob whose hash begins like this.
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await rename(file, place);
  }
  if (flush) await syncFolder(folder);
}

function removeAbandoned(folder: string): void {
  for (const name of readdirSync(folder).filter((entry) => entry.endsWith('.tmp'))) {
    const file = path.join(folder, name);
    const info = statSync(file, { throwIfNoEntry: false });
    if (info !== undefined && Date.now() - info.mtimeMs > abandonedAfterMs) rmSync(file, { force: true });
  }
}
