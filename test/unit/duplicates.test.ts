/** Questions about pictures that are nearly the same: which pairs are asked about, and that a large dataset is no burden. */
import { expect, test } from 'vitest';
import { imagesView } from '../../core/api/images-router.ts';
import { findDuplicates } from '../../core/data/duplicates.ts';
import { sha256 } from '../../core/shared/hash.ts';
import type { HashedImage } from '../../core/store/records.ts';
import { addImage, openTestStore } from '../fixtures/store.ts';

const image = (id: number, cropHash: string): HashedImage => ({
  ...{ id, sourceName: `${id}.png`, pseudonym: `s${id}`, split: 'train', cropHash, cropSha256: '' },
});
const pairs = (all: readonly HashedImage[], before: readonly HashedImage[]) =>
  findDuplicates(all, before).map(({ images }) => images.map(({ id }) => id));

test('pairs with a new picture are asked about, whichever of the two was recorded first', () => {
  const all = [1, 2, 3, 4].map((id) => image(id, sha256('one')));

  // An image that was set aside before keeps its number when it becomes ready.
  expect(pairs(all, [all[0]!, all[2]!])).toEqual([
    [1, 2],
    [2, 3],
    [1, 4],
    [2, 4],
    [3, 4],
  ]);
  expect(pairs(all, all)).toEqual([]);
  expect(pairs(all, [])).toHaveLength(6);
});

test('one picture more is compared with each of those before, and not they with each other', () => {
  let looks = 0;
  const counted = (one: HashedImage): HashedImage =>
    new Proxy(one, {
      get(target, name, self) {
        looks += 1;
        return Reflect.get(target, name, self);
      },
    });
  const before = Array.from({ length: 1000 }, (_, id) => counted(image(id, sha256(String(id)))));
  const all = [...before, counted(image(1000, sha256('7')))];

  expect(pairs(all, before)).toEqual([[7, 1000]]);
  // A few for each picture; half a million for the pairs.
  expect(looks).toBeLessThan(10 * all.length);
});

test('the screens’ question is worked out again only when something has changed, and then is right', () => {
  using opened = openTestStore();
  const { store } = opened;
  for (const name of ['a', 'b', 'c']) addImage(store, `s-${name}`, name, { cropHash: sha256(name) });
  const ask = () => imagesView(store).duplicates;
  const first = ask();
  const again = ask();
  addImage(store, 's-new', 'new', { cropHash: sha256('b') });
  const added = ask();
  const one = store.images.list().find(({ pseudonym }) => pseudonym === 's-a')!;
  addImage(store, 's-a', 'copy', { cropHash: sha256('a') });
  const copied = ask();
  store.images.correct(one.id, { ...one, split: 'test' });
  const moved = ask();

  expect(first).toEqual([]);
  expect(again).toBe(first);
  expect(added).toMatchObject([{ kind: 'two-subjects', images: [{ pseudonym: 's-b' }, {}] }]);
  expect(copied.map(({ kind }) => kind)).toEqual(['two-subjects', 'same-split']);
  expect(moved.map(({ kind }) => kind)).toEqual(['two-subjects', 'both-splits']);
});
