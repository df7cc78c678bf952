import { expect, test } from 'vitest';
import { z } from 'zod';
import { silentLogger } from '../../core/shared/logger.ts';
import type { NewMessage } from '../../core/store/federation-tables.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { createOutboxRelay } from '../../core/transport/outbox-relay.ts';
import { openTestStore } from '../fixtures/store.ts';

const message = (messageId: string, about: Partial<NewMessage> = {}): NewMessage => ({
  ...{ topic: 'topic', payload: Buffer.from(messageId), messageId, type: 'evaluation', ...about },
});

test('what was answered over a day ago is forgotten, what waits for an answer is kept', () => {
  // The store's clock stands two days back: what it marks as answered is old by now.
  using opened = openTestStore(new Date(Date.now() - 2 * 24 * 3_600_000).toISOString());
  const link = createMemoryBroker().connect({ clientId: 'site' });
  const outboxRelay = createOutboxRelay({ link, store: opened.store, logger: silentLogger });
  outboxRelay.enqueue(message('answered'));
  outboxRelay.enqueue(message('waiting'));

  outboxRelay.settle({ messageId: 'answered' });
  outboxRelay.close();

  const db = openSqlite(opened.file, { readOnly: true });
  const kept = db.get(z.object({ rows: z.number() }), 'SELECT count(*) AS rows FROM outbox');
  db.close();
  expect(kept).toEqual({ rows: 1 });
  expect(opened.store.outbox.pending()).toHaveLength(1);
});

test('an answer takes out what it is about, also behind a hundred others, and nothing else', () => {
  using opened = openTestStore();
  const link = createMemoryBroker().connect({ clientId: 'site' });
  const outboxRelay = createOutboxRelay({ link, store: opened.store, logger: silentLogger });
  const left = () => opened.store.outbox.pending(1000).map(({ payload }) => Buffer.from(payload).toString());
  const others = Array.from({ length: 100 }, (_, index) => `other ${index}`);
  for (const id of others) outboxRelay.enqueue(message(id));
  const announce = { type: 'announce', runId: 'r', round: 1 };
  outboxRelay.enqueue(message('first', { ...announce, updateSha256: 'a' }));
  outboxRelay.enqueue(message('second', { ...announce, updateSha256: 'b' }));
  outboxRelay.enqueue(message('next', { ...announce, round: 2, updateSha256: 'a' }));
  outboxRelay.enqueue(message('declined', { type: 'declined', runId: 'r', round: 1 }));

  outboxRelay.settle({ ...announce, updateSha256: 'c' });
  outboxRelay.settle({ ...announce, updateSha256: 'b' });
  const afterReceipt = left();
  outboxRelay.settle(announce);
  const afterRetraction = left();
  outboxRelay.settle({ messageId: 'declined' });
  outboxRelay.close();

  expect(afterReceipt).toEqual([...others, 'first', 'next', 'declined']);
  expect(afterRetraction).toEqual([...others, 'next', 'declined']);
  expect(left()).toEqual([...others, 'next']);
  expect(() => opened.store.outbox.markAnswered({})).toThrow(TypeError);
});
