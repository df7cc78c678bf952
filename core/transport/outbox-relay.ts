/**
 * Reliable messages over an unreliable network: what is in the outbox is sent, and sent again, until the
 * receiver itself answered. A broker's acknowledgement alone means nothing (see docs/protocol.md).
 */
import type { Logger } from '../shared/logger.ts';
import type { AnsweredMessage, NewMessage } from '../store/federation-tables.ts';
import type { OutboxRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Link } from './link.ts';

/** Also the time after which an unanswered message is sent again. */
const repeatAfterMs = 5_000;

/** How long an answered message stays in the outbox. */
const keepAnsweredMs = 24 * 3_600_000;

export interface OutboxRelay {
  /** Call in the transaction that changes the state it speaks of. `payload` is a sealed envelope. */
  enqueue(message: NewMessage): void;
  /** Sends everything pending now; called by itself at each connection and every few seconds. */
  flush(): void;
  /** Takes answered messages out of the outbox. */
  settle(answered: AnsweredMessage): void;
  close(): void;
}

export function createOutboxRelay(options: {
  link: Link;
  store: Pick<Store, 'outbox'>;
  logger: Logger;
  /** Asked for each message right before it leaves, however long it has waited; what may not is kept back. */
  mayLeave?(message: OutboxRecord): boolean;
}): OutboxRelay {
  const { link, store, logger } = options;
  /** What was taken back or answered since the list was read is not sent, either. */
  const mayLeave = (message: OutboxRecord) =>
    store.outbox.isPending(message.id) && options.mayLeave?.(message) !== false;
  let sending = false;
  let again = false;

  async function sendPending(): Promise<void> {
    if (sending) {
      again = true;
      return;
    }
    sending = true;
    try {
      for (const message of store.outbox.pending()) {
        if (!link.online) return;
        if (!mayLeave(message)) continue;
        const { topic, payload, retain } = message;
        await link.publish(topic, payload, { retain, mayLeave: () => mayLeave(message) });
      }
    } catch (error) {
      logger.warn({ error }, 'messages wait for the connection');
    } finally {
      sending = false;
      if (again) {
        again = false;
        void sendPending();
      }
    }
  }

  /** Answered messages are of use to somebody who looks for an error, for a while. */
  const forgetAnswered = () => {
    try {
      store.outbox.prune(new Date(Date.now() - keepAnsweredMs).toISOString());
    } catch (error) {
      // On a full disk they stay a little longer.
      logger.warn({ error }, 'answered messages not deleted');
    }
  };
  forgetAnswered();

  const timer = setInterval(() => void sendPending(), repeatAfterMs);
  timer.unref();
  const removeListener = link.onStatus((online) => {
    if (online) void sendPending();
  });

  return {
    enqueue: (message) => void store.outbox.add(message),
    flush: () => void sendPending(),
    settle(answered) {
      store.outbox.markAnswered(answered);
      forgetAnswered();
    },
    close() {
      clearInterval(timer);
      removeListener();
    },
  };
}
