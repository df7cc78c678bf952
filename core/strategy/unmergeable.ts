/** One update that stops the merge of all: who it is from, so that the others can be merged without it. */
import { AppError, type ErrorCode } from '../shared/errors.ts';

export class UnmergeableUpdate extends AppError {
  readonly siteId: string;

  constructor(siteId: string, cause: AppError) {
    super(cause.code, cause.message, { action: cause.action, cause });
    this.name = 'UnmergeableUpdate';
    this.siteId = siteId;
  }
}

/** What is wrong with an update, and not with this machine. */
const ofUpdates: ReadonlySet<ErrorCode> = new Set([
  'UPDATE_REJECTED',
  'SHAPE_MISMATCH',
  'MODEL_FILE_INVALID',
]);

/** Does something with a site's update. @throws UnmergeableUpdate when that fails because of what is in it */
export async function onBehalfOf<T>(siteId: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    const isOfUpdate = thrown instanceof AppError && ofUpdates.has(thrown.code);
    throw isOfUpdate && !(thrown instanceof UnmergeableUpdate)
      ? new UnmergeableUpdate(siteId, thrown)
      : thrown;
  }
}
