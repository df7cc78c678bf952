/**
 * The one place that deletes blobs: those that no row holds, as the view `blob_references` (one-home.sql) tells. Rows
 * are committed first and files deleted afterwards, so that a crash leaves files too many, which the next start sweeps
 * away, and never a row whose file is gone.
 */
import { z } from 'zod';
import type { BlobStore } from './blob-store.ts';
import type { Sqlite, SqlParameters } from './sqlite.ts';

/** A run whose states and updates of earlier rounds nobody will ask for again; for simulations. */
export interface Expiry {
  readonly runId: string;
  readonly beforeRound: number;
}

const hashRow = z.object({ sha256: z.string() });
const isHolding = `(held AND NOT (run_id IS @runId AND round < @beforeRound
  AND purpose IN ('start-state', 'global-state', 'update')))`;
const holding = `SELECT DISTINCT sha256 FROM blob_references
  WHERE sha256 IN (SELECT value FROM json_each(@hashes)) AND ${isHolding}`;
const released = `SELECT DISTINCT sha256 FROM blob_references
  WHERE run_id = @run AND round >= @fromRound AND NOT ${isHolding}`;
const ofOthers = `SELECT sha256 FROM blob_references WHERE sha256 = @sha256 AND purpose <> 'update'
  UNION SELECT sha256 FROM update_arrivals WHERE sha256 = @sha256 AND site_id <> @siteId`;
const nothingExpired: Expiry = { runId: '', beforeRound: 0 };

export interface BlobReferences {
  /** Those of the hashes that a row holds. */
  heldAmong(hashes: readonly string[], expired?: Expiry): Set<string>;
  /** Every hash that a row holds. */
  allHeld(): Set<string>;
  /** What rows of a run's later rounds name and do not hold; other rows may. */
  releasedBy(runId: string, fromRound: number, expired?: Expiry): Set<string>;
  /** Whether a row names the blob as anything but an update of this site. */
  isOfOthers(sha256: string, siteId: string): boolean;
}

export function createBlobReferences(db: Sqlite): BlobReferences {
  const hashes = (sql: string, parameters: SqlParameters) =>
    new Set(db.all(hashRow, sql, parameters).map(({ sha256 }) => sha256));
  return {
    heldAmong: (named, expired = nothingExpired) =>
      hashes(holding, { ...expired, hashes: JSON.stringify(named) }),
    allHeld: () => hashes('SELECT DISTINCT sha256 FROM blob_references WHERE held', {}),
    releasedBy: (run, fromRound, expired = nothingExpired) =>
      hashes(released, { ...expired, run, fromRound }),
    isOfOthers: (sha256, siteId) => hashes(ofOthers, { sha256, siteId }).size > 0,
  };
}

/** Looked up, and deleted, together. */
const atOnce = 500;

interface Holders {
  readonly blobReferences: BlobReferences;
}

/**
 * Deletes those of the candidates that nothing holds: what lost its row, or what never got one.
 * @returns how many were deleted
 */
export async function collectBlobs(
  { blobReferences }: Holders,
  blobs: BlobStore,
  candidates: Iterable<string>,
  expired?: Expiry,
): Promise<number> {
  const hashes = [...candidates];
  let deleted = 0;
  for (let start = 0; start < hashes.length; start += atOnce) {
    const batch = hashes.slice(start, start + atOnce);
    const held = blobReferences.heldAmong(batch, expired);
    const unneeded = batch.filter((sha256) => !held.has(sha256) && !blobs.isInUse(sha256));
    // All of them are gone before another row can come to name one: `delete` takes its file away in this very turn.
    await Promise.all(unneeded.map((sha256) => blobs.delete(sha256)));
    deleted += unneeded.length;
  }
  return deleted;
}

/** Deletes what a run needs no more of a round and those after it. */
export async function collectRun(
  { blobReferences }: Holders,
  blobs: BlobStore,
  runId: string,
  fromRound: number,
  expired?: Expiry,
): Promise<void> {
  const candidates = blobReferences.releasedBy(runId, fromRound, expired);
  await collectBlobs({ blobReferences }, blobs, candidates, expired);
}

/** Of all blobs on the disk, also unfinished ones. Call it before anything writes some. @returns how many were deleted */
export const sweepBlobs = (store: Holders, blobs: BlobStore): Promise<number> =>
  collectBlobs(store, blobs, [...blobs.list(), ...blobs.unfinished()]);
