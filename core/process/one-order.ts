/** A process in the background that answers one message of its parent and ends, or ends when its parent goes away. */
import { constants, setPriority } from 'node:os';
import { type ErrorReport, toAppError } from '../shared/errors.ts';
import { watchParent } from './parent-watch.ts';

export interface FailedReply {
  type: 'failed';
  error: ErrorReport;
}

/** Resolves when the message has left, or when nobody is there to read it. */
export function sendToParent(message: object): Promise<void> {
  return new Promise((resolve) => {
    if (!process.connected) resolve();
    else process.send?.(message, undefined, undefined, () => resolve());
  });
}

/**
 * @param answer what it throws is sent as a {@link FailedReply}; the cause of a fault of Anneal's goes to the agent's log
 * @param onMore further messages while it works
 */
export function answerOneOrder(
  answer: (order: unknown) => Promise<object>,
  onMore: (message: unknown) => void = () => {},
): void {
  watchParent();
  try {
    setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // Not permitted in some containers: at normal priority then.
  }
  process.on('disconnect', () => process.exit(0));
  process.once('message', (order) => {
    process.on('message', onMore);
    void answer(order)
      .catch(failed)
      .then(sendToParent)
      .then(() => process.exit(0));
  });
}

function failed(thrown: unknown): FailedReply {
  const error = toAppError(thrown);
  if (error.code === 'INTERNAL' || error.code === 'TRAINING_FAILED') console.error(error.cause ?? error);
  return { type: 'failed', error: error.toReport() };
}
