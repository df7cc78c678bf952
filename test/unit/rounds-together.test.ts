/**
 * The reducers of coordinator and sites together, over a network that delays, repeats and loses, with processes that die
 * between any two effects. `npm run chaos -- --orders 1000000` tries more orders.
 */
import { expect, test } from 'vitest';
import { playOrder, tryOrders } from '../chaos/orders/orders.ts';

const orders = Number(process.env['ANNEAL_ORDERS'] ?? 1_500);

test('in any order of events a run ends, no update that was announced in time is lost, and none is counted twice', () => {
  tryOrders(orders);
}, 240_000);

test('an undisturbed order comes to its end', () => {
  const settings = { sites: 3, quorum: 2, participation: 1, rounds: 3 };

  expect(playOrder({ settings, actions: [] })).toEqual([]);
});
