/** What two sums of a class may tell apart: whole groups of people, never fewer than the smallest cell. */
import { expect, test } from 'vitest';
import { createRandom } from '../../core/shared/random.ts';
import {
  admittedSums,
  type ClassImages,
  changedPeople,
  type EarlierCohort,
} from '../../core/site/class-sums.ts';

/** Two images of each person: 2p and 2p + 1. */
const of = (people: Iterable<number>): ClassImages =>
  new Map(
    [...people].flatMap((person) => [[2 * person, person] as const, [2 * person + 1, person] as const]),
  );
const upTo = (count: number, from = 0) => Array.from({ length: count }, (_, index) => from + index);
const sum = (people: Iterable<number>) => new Map([['a', of(people)]]);
const earlier = (people: Iterable<number>, rest: Partial<EarlierCohort> = {}): EarlierCohort => ({
  ...{ images: sum(people), isWhole: true, smallCell: 5 },
  ...rest,
});
const peopleIn = (images: ClassImages | undefined) =>
  images && [...new Set(images.values())].sort((x, y) => x - y);
const sent = (people: Iterable<number>, before: readonly EarlierCohort[], smallCell = 5) =>
  peopleIn(admittedSums(sum(people), before, smallCell).get('a'));

test.each<[string, number[], EarlierCohort[], number[] | undefined]>([
  ['the first sum holds everybody', upTo(9), [], upTo(9)],
  ['too few people are no sum', upTo(4), [], undefined],
  ['the same people again', upTo(9), [earlier(upTo(9))], upTo(9)],
  ['one more: the sum is the earlier one', upTo(10), [earlier(upTo(9))], upTo(9)],
  ['four more: still', upTo(13), [earlier(upTo(9))], upTo(9)],
  ['five more: all of them', upTo(14), [earlier(upTo(9))], upTo(14)],
  ['one left: none at all', upTo(8), [earlier(upTo(9))], undefined],
  ['five left', upTo(9), [earlier(upTo(14))], upTo(9)],
  ['one left and four came: five people differ', upTo(12, 1), [earlier(upTo(9))], upTo(12, 1)],
  [
    'one after the other, each hidden behind the first sum',
    upTo(11),
    [earlier(upTo(9)), earlier(upTo(10))],
    upTo(9),
  ],
  ['the newest sum that is all there', upTo(15), [earlier(upTo(9)), earlier(upTo(14))], upTo(14)],
  [
    'somebody was erased since: perhaps of this class',
    upTo(9),
    [earlier(upTo(9), { isWhole: false })],
    undefined,
  ],
  ['erased, but five others came', upTo(14), [earlier(upTo(9), { isWhole: false })], upTo(14)],
  ['nobody knows what left', upTo(30), [earlier(upTo(9), { images: null })], undefined],
])('%s', (_what, now, before, expected) => {
  expect(sent(now, before)).toEqual(expected);
});

test('a new image of somebody changes that person', () => {
  const more = new Map([...of(upTo(9)), [100, 3]]);

  expect(changedPeople(more, of(upTo(9)))).toBe(1);
  expect(admittedSums(new Map([['a', more]]), [earlier(upTo(9))], 5).get('a')).toEqual(of(upTo(9)));
});

test('an image that was given to another person changes both', () => {
  const given = new Map([...of(upTo(9)), [0, 8]]);

  expect(changedPeople(given, of(upTo(9)))).toBe(2);
});

test('classes do not hide each other, and other class sets change nothing', () => {
  const first: EarlierCohort = {
    ...earlier(upTo(9)),
    images: new Map([...sum(upTo(9)), ['b', of(upTo(9, 50))]]),
  };
  const now = new Map([...sum(upTo(10)), ['c', of(upTo(6, 80))]]);

  const left = admittedSums(now, [first], 5);

  expect([peopleIn(left.get('a')), peopleIn(left.get('b')), peopleIn(left.get('c'))]).toEqual([
    upTo(9),
    undefined,
    upTo(6, 80),
  ]);
});

test('whoever comes and goes: no two sums of a class differ by fewer than five people', () => {
  const random = createRandom(7);
  for (let world = 0; world < 40; world++) {
    const people = new Set(upTo(8));
    const history: EarlierCohort[] = [];
    const left: ClassImages[] = [];
    for (let run = 0; run < 12; run++) {
      for (let change = 0; change < random.integer(5); change++) {
        const person = random.integer(24);
        if (!people.delete(person)) people.add(person);
      }
      const images = admittedSums(sum(people), history, 5).get('a');
      if (images !== undefined) left.push(images);
      history.push(earlier(people));
    }
    const apart = left.flatMap((one, index) =>
      left.slice(index + 1).map((other) => changedPeople(one, other)),
    );
    expect(apart.filter((count) => count > 0 && count < 5)).toEqual([]);
  }
});
