/** The file in which a job leaves its result. */
import { AppError, toAppError } from '../shared/errors.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';

/** @throws AppError DISK_FULL | DATA_FOLDER_UNUSABLE */
export async function writeResult(file: string, bytes: Uint8Array): Promise<void> {
  try {
    await writeFileAtomically(file, bytes);
  } catch (cause) {
    const error = toAppError(cause);
    if (error.code !== 'INTERNAL') throw error;
    throw new AppError('DATA_FOLDER_UNUSABLE', 'The trained state cannot be written to the data folder.', {
      cause,
    });
  }
}
