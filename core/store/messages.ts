/** Outbox and inbox: what makes "state first, message afterwards" and "each message once" hold over crashes. */
import { outboxRecord } from './records.ts';
import { selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Inbox, Outbox, OutboxReader } from './tables.ts';

const columns = selectList(outboxRecord);

export function createOutboxReader(db: Sqlite): OutboxReader {
  return {
    pending(limit = 100) {
      return db.all(
        outboxRecord,
        `SELECT ${columns} FROM outbox WHERE sent_at IS NULL ORDER BY id LIMIT @limit`,
        { limit },
      );
    },
  };
}

export function createOutbox(db: Sqlite, now: () => string): Outbox {
  return {
    ...createOutboxReader(db),
    add({ topic, payload, retain = false }) {
      return db.run(
        'INSERT INTO outbox (topic, payload, retain, created_at) VALUES (@topic, @payload, @retain, @now)',
        { topic, payload, retain, now: now() },
      ).lastId;
    },
    markSent(id) {
      db.run('UPDATE outbox SET sent_at = @now WHERE id = @id AND sent_at IS NULL', { id, now: now() });
    },
    prune(sentBefore) {
      return db.run('DELETE FROM outbox WHERE sent_at < @sentBefore', { sentBefore }).changes;
    },
  };
}

export function createInbox(db: Sqlite, now: () => string): Inbox {
  return {
    seen(sender, messageId) {
      const done = db.run(
        `INSERT INTO inbox (sender, message_id, received_at) VALUES (@sender, @messageId, @now)
         ON CONFLICT DO NOTHING`,
        { sender, messageId, now: now() },
      );
      return done.changes === 0;
    },
    prune(receivedBefore) {
      return db.run('DELETE FROM inbox WHERE received_at < @receivedBefore', { receivedBefore }).changes;
    },
  };
}
