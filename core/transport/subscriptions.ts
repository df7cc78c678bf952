/** The handlers of a link: which message goes to whom, in order, without growing beyond a bound. */
import { isOffline } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { LinkMessage } from './link.ts';
import { topicMatches } from './topics.ts';

export type MessageHandler = (message: LinkMessage) => void | Promise<void>;

export interface Subscriptions {
  readonly filters: readonly string[];
  /** Returns remove, which says whether this was the last handler of its filter. */
  add(filter: string, handler: MessageHandler): () => boolean;
  dispatch(message: LinkMessage): void;
  /** Handlers hear nothing any more. */
  clear(): void;
}

/** What one handler may leave unhandled before further messages to it are dropped. */
const maxQueuedBytes = 64 * 1024 * 1024;
const maxQueuedMessages = 4096;
const logEveryMs = 10_000;

interface Inbox {
  filter: string;
  push(message: LinkMessage): void;
  close(): void;
}

export function createSubscriptions(logger: Logger): Subscriptions {
  const inboxes = new Set<Inbox>();
  return {
    get filters() {
      return [...new Set([...inboxes].map((inbox) => inbox.filter))];
    },
    add(filter, handler) {
      const inbox = createInbox(filter, handler, logger);
      inboxes.add(inbox);
      return () => {
        inbox.close();
        if (!inboxes.delete(inbox)) return false;
        return ![...inboxes].some((other) => other.filter === filter);
      };
    },
    dispatch(message) {
      for (const inbox of inboxes) if (topicMatches(inbox.filter, message.topic)) inbox.push(message);
    },
    clear() {
      for (const inbox of inboxes) inbox.close();
      inboxes.clear();
    },
  };
}

function createInbox(filter: string, handler: MessageHandler, logger: Logger): Inbox {
  const queue: LinkMessage[] = [];
  let queuedBytes = 0;
  let dropped = 0;
  let loggedAt = Number.NEGATIVE_INFINITY;
  let running = false;
  let closed = false;

  async function drain(): Promise<void> {
    running = true;
    for (let message = queue.shift(); message !== undefined && !closed; message = queue.shift()) {
      queuedBytes -= message.payload.length;
      try {
        await handler(message);
      } catch (error) {
        // The answer to a message that came just before its reader closed: there is nobody left to send it.
        if (closed && isOffline(error)) break;
        logger.warn({ error, filter }, 'a message could not be handled');
      }
    }
    running = false;
  }

  return {
    filter,
    push(message) {
      if (closed) return;
      if (queue.length >= maxQueuedMessages || queuedBytes + message.payload.length > maxQueuedBytes) {
        dropped++;
        if (performance.now() - loggedAt > logEveryMs) {
          loggedAt = performance.now();
          logger.warn(
            { filter, dropped },
            'messages arrive faster than they can be handled; some were dropped',
          );
        }
        return;
      }
      queue.push(message);
      queuedBytes += message.payload.length;
      if (!running) void drain();
    },
    close() {
      closed = true;
      queue.length = 0;
    },
  };
}
