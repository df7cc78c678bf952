import { toAppError } from '../shared/errors.ts';

/** Runs `work`; a full disk, or a quota that is used up, becomes AppError DISK_FULL. Other errors pass. */
export async function onDisk<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    const error = toAppError(thrown);
    throw error.code === 'DISK_FULL' ? error : thrown;
  }
}
