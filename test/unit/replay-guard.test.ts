/** Messages are ordered by their senders' numbers; clocks decide for senders without numbers only. */
import fc from 'fast-check';
import { beforeEach, expect, test } from 'vitest';
import type { MessageOrder } from '../../core/transport/message-order.ts';
import { createNewestHeard, createReplayGuard } from '../../core/transport/replay-guard.ts';
import { openTestStore, type TestStore } from '../fixtures/store.ts';

const [epoch, later, never] = ['a', 'b', 'c'].map((digit) => digit.repeat(32)) as [string, string, string];
const dayMs = 24 * 3_600_000;
const daysAway = (days: number) => new Date(Date.now() + days * dayMs);
const placed = (counter: number, part = 1, life = epoch): MessageOrder => ({ epoch: life, counter, part });

let opened: TestStore;
beforeEach(() => {
  opened = openTestStore();
  return () => opened[Symbol.dispose]();
});

test.each([-400, -2, -1.1, 0, 1.1, 2, 400])('a sender whose clock is %d days off is heard, once', (days) => {
  const guard = createReplayGuard({ peers: opened.store.peers });
  const message = { sender: 'site', id: '1', at: daysAway(days), order: placed(5) };
  expect([guard.accept(message), guard.accept(message)]).toEqual([true, false]);
});

test('what is far behind the newest number is a replay, also in a new process that remembers no message', () => {
  const { peers } = opened.store;
  peers.note('site', { epoch, counter: 50_000 }, 'current');
  const guard = createReplayGuard({ peers });
  const at = new Date();
  expect(guard.accept({ sender: 'site', id: '1', at, order: placed(10) })).toBe(false);
  expect(guard.accept({ sender: 'site', id: '2', at, order: placed(49_990) })).toBe(true);
});

test('nothing of an earlier life of its store is taken any more', () => {
  const { peers } = opened.store;
  peers.note('site', { epoch, counter: 5 }, 'current');
  peers.note('site', { epoch: later, counter: 1 }, 'current');
  const guard = createReplayGuard({ peers });
  const heard = createNewestHeard(peers);
  const old = { sender: 'site', id: '1', at: new Date(), order: placed(1_000_000) };
  expect(guard.accept(old)).toBe(false);
  expect(heard.isNewest(old)).toBe(false);
  expect(guard.accept({ ...old, order: placed(1, 1, never) })).toBe(true);
});

test('who has given numbers is not heard without them any more', () => {
  const { peers } = opened.store;
  const guard = createReplayGuard({ peers });
  const plain = { sender: 'site', at: new Date() };
  const before = guard.accept({ ...plain, id: '1' });
  peers.note('site', { epoch, counter: 5 }, 'current');
  expect([before, guard.accept({ ...plain, id: '2' })]).toEqual([true, false]);
});

test('the newest is the newest in any order of arrival, and after a restart nothing that was said before', () => {
  const { peers } = opened.store;
  peers.note('site', { epoch, counter: 3 }, 'current');
  const orders = fc.array(
    fc.record({ counter: fc.integer({ min: 0, max: 9 }), part: fc.integer({ min: 0, max: 9 }) }),
  );
  fc.assert(
    fc.property(orders, (arrivals) => {
      const heard = createNewestHeard(peers);
      const value = ({ counter, part }: { counter: number; part: number }) => 10 * counter + part;
      let newest = -1;
      for (const one of arrivals) {
        const isNewest = heard.isNewest({ sender: 'site', order: { epoch, ...one } });
        const expected = newest < 0 ? one.counter > 3 : value(one) > newest;
        expect(isNewest).toBe(expected);
        if (isNewest) newest = value(one);
      }
    }),
  );
});
