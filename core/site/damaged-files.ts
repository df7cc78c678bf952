/**
 * What a site does when a file of its own disk is not the one that it wrote. The trainer holds each against its hash as it
 * reads it and refuses the job; here what is damaged goes, so that the next try fetches it again or does without it. A
 * photograph whose crop is damaged is set aside where everybody sees it, and comes back when it is imported again.
 */
import { AppError, toAppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ImageRecord } from '../store/records.ts';
import { collectBlobs } from '../store/retention.ts';
import type { Store } from '../store/store.ts';

export const damagedCropReason = 'its crop was damaged on this disk; import the photograph again';

interface OwnFiles {
  store: Store;
  blobs: BlobStore;
}

/**
 * Runs a job of the trainer. When it meets a damaged file, every file that it was given is verified.
 * @param stateSha256 the fetched global state behind the job
 * @throws AppError what the job throws; BLOB_CORRUPT says what was done
 */
export async function withVerifiedFiles<T>(
  files: OwnFiles,
  given: { stateSha256: string; images: readonly ImageRecord[] },
  job: () => Promise<T>,
): Promise<T> {
  try {
    return await job();
  } catch (thrown) {
    if (toAppError(thrown).code !== 'BLOB_CORRUPT') throw thrown;
    await files.blobs.verify(given.stateSha256);
    const lost = await setAsideDamaged(files, given.images);
    if (lost === 0) throw thrown;
    throw new AppError(
      'BLOB_CORRUPT',
      `The ${lost === 1 ? 'crop' : 'crops'} of ${plural(lost, 'photograph')} ${lost === 1 ? 'was' : 'were'} damaged on this disk; ${lost === 1 ? 'it is' : 'they are'} set aside.`,
      {
        action:
          'Import these photographs again: they are among those set aside. The round goes on without them. Have the disk checked.',
        cause: thrown,
      },
    );
  }
}

/** @returns how many images were set aside */
async function setAsideDamaged({ store, blobs }: OwnFiles, images: readonly ImageRecord[]): Promise<number> {
  const damaged: ImageRecord[] = [];
  for (const image of images) {
    if (image.cropSha256 !== null && !(await blobs.verify(image.cropSha256))) damaged.push(image);
  }
  if (damaged.length === 0) return 0;
  store.transaction(() => {
    const bySubject = Map.groupBy(damaged, ({ pseudonym }) => pseudonym);
    for (const [pseudonym, own] of bySubject) {
      for (const { id } of own) store.images.dropCrop(id, damagedCropReason, 'damaged');
      const details = { subject: store.subjects.refOf(pseudonym), images: own.length };
      store.audit.append({ actor: 'anneal', action: 'crops.damaged', details });
    }
  });
  await collectBlobs(
    store,
    blobs,
    damaged.map(({ cropSha256 }) => cropSha256!),
  );
  return damaged.length;
}
