/** Deletes files that nothing refers to: crops of an import that was killed, states of rounds long past. */
import { frozenBaseKey, frozenBaseSchema } from '../site/round-state.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ReadOnlyStore } from '../store/store.ts';

/**
 * Call it before anything writes blobs. A photograph's crop without a row would be an image that nobody knows of.
 * @returns how many were deleted
 */
export async function sweepBlobs(store: ReadOnlyStore, blobs: BlobStore): Promise<number> {
  const current = store.runs.current();
  const rounds = current === null ? [] : store.rounds.listOfRun(current.id);
  const updates =
    current === null
      ? []
      : store.roundSites.listOfRun(current.id).flatMap(({ updateSha256 }) => updateSha256 ?? []);
  // A run's adapters are nothing without what was put under them.
  const frozenBases = store.runs
    .list()
    .flatMap(({ id }) =>
      store.rounds.listOfRun(id).flatMap(({ frozenBaseSha256 }) => frozenBaseSha256 ?? []),
    );
  const known = new Set([
    ...store.images.list().flatMap(({ cropSha256 }) => cropSha256 ?? []),
    ...store.adapters.list().map(({ sha256 }) => sha256),
    ...rounds.map((round) => round.startSha256),
    ...rounds.flatMap(({ memorySha256 }) => memorySha256 ?? []),
    // A coordinator's: what the sites delivered for the round in progress has no other copy that is asked for again.
    ...updates,
    ...frozenBases,
    // A site's local parameters of a run, also of finished ones: its personal model is made of it.
    ...store.siteMemory.list().map(({ sha256 }) => sha256),
    ...(store.settings.get(frozenBaseKey, frozenBaseSchema) ?? []),
  ]);
  const orphans = blobs.list().filter((sha256) => !known.has(sha256));
  for (const sha256 of orphans) await blobs.delete(sha256);
  return orphans.length;
}
