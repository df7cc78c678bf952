/** `runs.jsonl` while an experiment writes it: whole lines only, whatever happens to the process. */
import { open, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { toAppError } from '../shared/errors.ts';
import { type RunLine, readRunLines } from './record.ts';

export const resultsName = 'runs.jsonl';

export interface Results {
  readonly file: string;
  /** Ids of the finished runs. Those that failed are run again. */
  readonly finished: ReadonlySet<string>;
  /** Runs that are in the file, finished and failed ones, by id. */
  readonly lines: ReadonlyMap<string, RunLine>;
  /** Resolves when the line is on the disk. @throws AppError DISK_FULL */
  append(line: RunLine): Promise<void>;
}

/**
 * Opens or begins the results of an output folder. What a cut-off write left at the end is removed.
 * @throws AppError CONFIG_INVALID for a line that cannot be read
 */
export async function openResults(outFolder: string): Promise<Results> {
  const file = join(outFolder, resultsName);
  const bytes = await readFile(file).catch(() => null);
  if (bytes !== null) {
    const end = bytes.lastIndexOf(0x0a) + 1;
    if (end < bytes.length) await truncate(file, end);
  }
  const read = bytes === null ? [] : await readRunLines(file);
  const lines = new Map(read.map((line) => [line.id, line]));
  const finished = new Set(read.filter(({ status }) => status === 'finished').map(({ id }) => id));
  let last: Promise<void> = Promise.resolve();

  async function write(line: RunLine): Promise<void> {
    try {
      const handle = await open(file, 'a');
      try {
        await handle.appendFile(`${JSON.stringify(line)}\n`);
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw toAppError(error);
    }
    lines.set(line.id, line);
    if (line.status === 'finished') finished.add(line.id);
  }

  return {
    file,
    finished,
    lines,
    append(line) {
      last = last.catch(() => {}).then(() => write(line));
      return last;
    },
  };
}
