import { setTimeout } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { openTestStore } from '../fixtures/store.ts';

describe('messages', () => {
  test('wait in the outbox in order until they are answered, then can be pruned', () => {
    using opened = openTestStore();
    const { store, clock } = opened;
    const first = store.outbox.add({
      ...{ topic: 'a', payload: Uint8Array.of(1), retain: true, messageId: 'm1', type: 'announce' },
    });
    store.outbox.add({ topic: 'b', payload: Uint8Array.of(2, 3), messageId: 'm2', type: 'announce' });

    expect(store.outbox.pending(1)).toMatchObject([{ id: first, topic: 'a', retain: true, sentAt: null }]);
    store.outbox.markAnswered({ messageId: 'm1' });
    const left = store.outbox.pending();
    expect(left.map((message) => [...message.payload])).toEqual([[2, 3]]);
    clock.now = new Date('2026-11-23T12:00:00.000Z');
    expect(store.outbox.prune(store.now())).toBe(1);
    expect(store.outbox.pending()).toHaveLength(1);
  });
});

describe('transactions', () => {
  test('keep everything or nothing, also when nested', () => {
    using opened = openTestStore();
    const { store } = opened;

    store.transaction(() => {
      store.settings.set('outer', 1);
      expect(() =>
        store.transaction(() => {
          store.settings.set('inner', 1);
          throw new Error('inner fails');
        }),
      ).toThrow('inner fails');
    });
    expect(() =>
      store.transaction(() => {
        store.transaction(() => store.settings.set('late', 1));
        throw new Error('outer fails');
      }),
    ).toThrow('outer fails');

    const isSet = (key: string) => store.settings.get(key, z.number()) !== null;
    expect([isSet('outer'), isSet('inner'), isSet('late')]).toEqual([true, false, false]);
  });

  test('refuse to be asynchronous, and leave nothing behind', async () => {
    using opened = openTestStore();
    const { store } = opened;

    expect(() =>
      store.transaction(async () => {
        store.settings.set('early', 1);
        await setTimeout(1);
        throw new Error('nobody may be left with this rejection');
      }),
    ).toThrow(TypeError);

    await setTimeout(5);
    expect(store.settings.get('early', z.number())).toBeNull();
  });
});
