/** Where a store stands, over restarts, restores and copies; fc drives many histories. */
import { randomUUID } from 'node:crypto';
import { copyFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { confirmRestored, markRestored, restoredNote } from '../../core/store/restored.ts';
import { openStore } from '../../core/store/store.ts';
import { closeTrail, openTrail, trailBoxSchema } from '../../core/transport/trail-box.ts';
import { signerOf } from '../contract/test-brokers.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

test('the counter only grows, also over restarts, and a transaction that is undone takes its number back', () => {
  using folder = temporaryFolder();
  const file = path.join(folder.dir, 'anneal.db');
  const first = openStore(file);
  first.position.begin(randomUUID());
  const said = [first.position.advance(), first.position.advance()];
  const undone = () =>
    first.transaction(() => {
      first.position.advance();
      throw new Error('undone');
    });
  expect(undone).toThrow('undone');
  const kept = first.position.get();
  first.close();
  const second = openStore(file);
  second.position.begin(randomUUID());
  const after = second.position.advance();
  second.close();

  expect(said.map(({ counter }) => counter)).toEqual([2, 3]);
  expect(kept).toEqual(said[1]);
  expect(after.epoch).toBe(kept.epoch);
  expect(after.counter).toBeGreaterThan(kept.counter);
});

test('each store has an epoch of its own', () => {
  using one = openTestStore();
  using other = openTestStore();
  expect(one.store.position.get().epoch).not.toBe(other.store.position.get().epoch);
});

test('after a restored store was marked, its numbers are of another life', () => {
  using opened = openTestStore();
  const { store } = opened;
  const before = { ...store.position.advance(), instance: randomUUID() };
  markRestored(store, 'backup');

  expect(store.position.get().epoch).not.toBe(before.epoch);
  expect(restoredNote(store)).toMatchObject({ how: 'backup', missing: null });
  expect(confirmRestored(store, 'somebody')).toMatchObject({ how: 'backup' });
  expect(confirmRestored(store, 'somebody')).toBeNull();
  expect(store.audit.page().map(({ action }) => action)).toEqual(['restore-confirmed', 'store-went-back']);
});

test('in every history of restarts and restored copies a store knows exactly what it has said itself', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('say', 'restart', 'back up', 'restore'), { maxLength: 30 }),
      (acts) => {
        using folder = temporaryFolder();
        const [file, backup] = ['anneal.db', 'backup.db'].map((name) => path.join(folder.dir, name));
        const open = () => openStore(file!, { durability: 'process' });
        let store = open();
        let instance = randomUUID();
        store.position.begin(instance);
        /** What this life has said and still knows, and what was lost with a copy that was put back. */
        let known: Parameters<typeof store.position.contains>[0][] = [];
        let inBackup: typeof known | null = null;
        const lost: typeof known = [];
        const restart = () => {
          store = open();
          instance = randomUUID();
          store.position.begin(instance);
        };
        for (const act of acts) {
          if (act === 'say') known.push({ ...store.position.advance(), instance });
          else {
            store.close();
            if (act === 'back up') {
              copyFileSync(file!, backup!);
              inBackup = [...known];
              // A process that goes on while its files are copied.
              store = open();
              continue;
            }
            if (act === 'restore' && inBackup !== null) {
              copyFileSync(backup!, file!);
              lost.push(...known.filter((one) => !inBackup!.includes(one)));
              known = [...inBackup];
            }
            restart();
          }
          expect(known.filter((one) => !store.position.contains(one))).toEqual([]);
          expect(lost.filter((one) => store.position.contains(one))).toEqual([]);
        }
        store.close();
      },
    ),
    { numRuns: 20 },
  );
});

test('what a trail is like only its owner can read, and it is different each time', () => {
  const head = { rows: 1_234_567, head: 'ab'.repeat(32) };
  const [owner, other] = [signerOf('site-a'), signerOf('site-b')];
  const boxes = [closeTrail(head, owner), closeTrail(head, owner)];
  expect(new Set(boxes).size).toBe(2);
  expect(boxes.map((box) => trailBoxSchema.safeParse(box).success)).toEqual([true, true]);
  expect(boxes.map((box) => openTrail(box, owner))).toEqual([head, head]);
  expect(openTrail(boxes[0]!, other)).toBeNull();
  const changed = `${boxes[0]!.slice(0, 40)}${boxes[0]![40] === 'A' ? 'B' : 'A'}${boxes[0]!.slice(41)}`;
  expect(openTrail(changed, owner)).toBeNull();
});

test('of a peer the newest is what was heard last, also after a clock here was set back', () => {
  using opened = openTestStore();
  const { store, clock } = opened;
  const say = (number: number) => store.peers.keepStatement('site', randomUUID(), number, { number });
  clock.now.setUTCFullYear(2027);
  for (let number = 1; number <= 9; number++) say(number);
  clock.now.setUTCFullYear(2026);

  for (const number of [10, 11]) say(number);

  expect(store.peers.statements('site', 4)).toEqual([11, 10, 9, 8].map((number) => ({ number })));
});
