/** Reading a file of which nobody else has a copy: no transfer brings it back. */
import { AppError, toAppError } from '../shared/errors.ts';
import type { BlobStore } from './blob-store.ts';

const lost: ReadonlySet<string> = new Set(['BLOB_CORRUPT', 'NOT_FOUND']);

/**
 * @param told what kind of file it is and that it is damaged, in one sentence; and what helps
 * @throws AppError FILE_DAMAGED when it is not here, or not the one that was written
 */
export async function readOwnBlob(
  blobs: Pick<BlobStore, 'read'>,
  sha256: string,
  told: { message: string; action: string },
): Promise<Uint8Array> {
  try {
    return await blobs.read(sha256);
  } catch (cause) {
    if (!lost.has(toAppError(cause).code)) throw cause;
    throw new AppError('FILE_DAMAGED', told.message, { action: told.action, cause });
  }
}
