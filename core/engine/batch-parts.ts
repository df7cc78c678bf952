/** The parts of a row of batches, computed one after the other or several at a time. */
import type { Tensor } from '../shared/tensor.ts';
import type { Executable } from './engine.ts';

type Feeds = Readonly<Record<string, Tensor>>;
type Outputs = Record<string, Tensor>;

/** What this needs to know of a part; see MicroBatch. */
export interface BatchPart {
  /** Whether its batch ends with it. */
  last: boolean;
}

/**
 * Gives the outputs in the order of the parts, whichever lane computes them, so that sums of them are always the same.
 * The feeds may be used again once the next part is asked for; outputs stay as they are until the next of a later
 * batch are asked for. Parts of two batches are never under way together: the second needs what the first changes.
 * @param before waited for before a part is started
 * @throws AppError what the executable throws; nothing is being computed any more then
 */
export async function* computeParts<Part extends BatchPart>(
  executable: Executable,
  parts: AsyncIterable<{ part: Part; feeds: Feeds }>,
  before: () => Promise<void>,
): AsyncGenerator<{ part: Part; outputs: Outputs }> {
  const { beside = [] } = executable;
  let underWay: { part: Part; outputs: Promise<Outputs> }[] = [];
  const start = (part: Part, outputs: Promise<Outputs>) => {
    // A failure is looked at when its turn comes.
    outputs.catch(() => {});
    underWay.push({ part, outputs });
  };
  try {
    for await (const { part, feeds } of parts) {
      await before();
      const lane = part.last ? undefined : beside[underWay.length];
      if (lane !== undefined) {
        start(part, lane.start(feeds));
        continue;
      }
      // This thread takes the last of those that are computed together: it is blocked until it has done its own.
      start(part, executable.run(feeds));
      const together = underWay;
      await Promise.allSettled(together.map(({ outputs }) => outputs));
      underWay = [];
      for (const { part: done, outputs } of together) yield { part: done, outputs: await outputs };
    }
  } finally {
    await Promise.allSettled(underWay.map(({ outputs }) => outputs));
  }
}
