/** The report of a simulation's runs as a file. */
import { basename } from 'node:path';
import { AppError } from '../../shared/errors.ts';
import { writeFileAtomically } from '../../store/atomic-file.ts';
import type { RunLine } from '../record.ts';
import type { ReportOptions } from './page.ts';

export type { ReportOptions } from './page.ts';

/**
 * Writes the HTML report of these runs, whole or not at all; a report that is there is replaced.
 * @throws AppError CONFIG_INVALID when there is no run, DISK_FULL, or DATA_FOLDER_UNUSABLE when the file cannot be made
 */
export async function writeReport(
  runs: readonly RunLine[],
  file: string,
  options: ReportOptions = {},
): Promise<void> {
  if (runs.length === 0) throw new AppError('CONFIG_INVALID', 'There is no run to report.');
  // The charts are half of what a command would load; only a report draws some.
  const { renderReport } = await import('./page.ts');
  const page = Buffer.from(renderReport(runs, options));
  try {
    await writeFileAtomically(file, page);
  } catch (cause) {
    const full = (cause as { code?: unknown }).code === 'ENOSPC';
    throw new AppError(
      full ? 'DISK_FULL' : 'DATA_FOLDER_UNUSABLE',
      full ? 'The disk is full.' : `The report "${basename(file)}" cannot be written.`,
      { action: 'Name another file for the report.', cause },
    );
  }
}
