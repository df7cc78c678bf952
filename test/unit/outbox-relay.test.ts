import { expect, test } from 'vitest';
import { z } from 'zod';
import { silentLogger } from '../../core/shared/logger.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { createOutboxRelay } from '../../core/transport/outbox-relay.ts';
import { openTestStore } from '../fixtures/store.ts';

const text = (id: string) => Buffer.from(JSON.stringify({ id, type: 'evaluation', body: {} }));

test('what was answered over a day ago is forgotten, what waits for an answer is kept', () => {
  // The store's clock stands two days back: what it marks as answered is old by now.
  using opened = openTestStore(new Date(Date.now() - 2 * 24 * 3_600_000).toISOString());
  const link = createMemoryBroker().connect({ clientId: 'site' });
  const outboxRelay = createOutboxRelay({ link, store: opened.store, logger: silentLogger });
  outboxRelay.enqueue('topic', text('answered'));
  outboxRelay.enqueue('topic', text('waiting'));

  outboxRelay.settle(({ id }) => id === 'answered');
  outboxRelay.close();

  const db = openSqlite(opened.file, { readOnly: true });
  const kept = db.get(z.object({ rows: z.number() }), 'SELECT count(*) AS rows FROM outbox');
  db.close();
  expect(kept).toEqual({ rows: 1 });
  expect(opened.store.outbox.pending()).toHaveLength(1);
});
