import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dirichletPartition, largestRemainder } from '../../core/data/partition.ts';
import { assignSplits, minSubjectsToSplit, type Splittable } from '../../core/data/split.ts';

const labelsOf = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 120 });
const count = (sites: readonly number[], site: number) => sites.filter((other) => other === site).length;

describe('dirichletPartition', () => {
  test('gives every item one site, and every site its minimum', () => {
    fc.assert(
      fc.property(
        labelsOf,
        fc.integer({ min: 1, max: 7 }),
        fc.double({ min: 0.05, max: 50, noNaN: true }),
        fc.integer(),
        fc.integer({ min: 0, max: 12 }),
        (labels, sites, alpha, seed, minPerSite) => {
          const siteOf = dirichletPartition(labels, { sites, alpha, seed, minPerSite });

          expect(siteOf).toHaveLength(labels.length);
          expect(siteOf.every((site) => Number.isInteger(site) && site >= 0 && site < sites)).toBe(true);
          const floor = Math.min(minPerSite, Math.floor(labels.length / sites));
          for (let site = 0; site < sites; site++) {
            expect(count(siteOf, site)).toBeGreaterThanOrEqual(floor);
          }
        },
      ),
    );
  });

  test('is the same for the same seed and another for another seed', () => {
    const labels = Array.from({ length: 90 }, (_, index) => 'abc'[index % 3]!);
    const options = { sites: 3, alpha: 0.5, seed: 4 };
    expect(dirichletPartition(labels, options)).toEqual(dirichletPartition(labels, options));
    expect(dirichletPartition(labels, options)).not.toEqual(
      dirichletPartition(labels, { ...options, seed: 5 }),
    );
  });

  test('is the more uneven the smaller alpha is', () => {
    const labels = Array.from({ length: 300 }, (_, index) => 'abc'[index % 3]!);
    // Mean share of a label's largest site, over seeds; even would be 1/3.
    const concentration = (alpha: number) => {
      let sum = 0;
      for (let seed = 0; seed < 30; seed++) {
        const siteOf = dirichletPartition(labels, { sites: 3, alpha, seed });
        for (const label of 'abc') {
          const sites = siteOf.filter((_, index) => labels[index] === label);
          sum += Math.max(...[0, 1, 2].map((site) => count(sites, site))) / sites.length;
        }
      }
      return sum / 90;
    };
    expect(concentration(0.2)).toBeGreaterThan(concentration(2) + 0.1);
    expect(concentration(1000)).toBeLessThan(0.37);
  });

  test('equalSizes leaves sites that differ by at most the remainder', () => {
    const labels = Array.from({ length: 100 }, (_, index) => 'abcd'[index % 4]!);
    const siteOf = dirichletPartition(labels, { sites: 3, alpha: 0.1, seed: 1, equalSizes: true });
    expect([0, 1, 2].map((site) => count(siteOf, site)).sort()).toEqual([33, 33, 34]);
  });

  test('refuses settings without meaning', () => {
    expect(() => dirichletPartition(['a'], { sites: 0, alpha: 1, seed: 0 })).toThrow(RangeError);
    expect(() => dirichletPartition(['a'], { sites: 2, alpha: 0, seed: 0 })).toThrow(RangeError);
  });
});

test('largestRemainder keeps the sum and is never off by one or more', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.001, max: 1, noNaN: true }), { minLength: 1, maxLength: 9 }),
      fc.integer({ min: 0, max: 500 }),
      (shares, total) => {
        const counts = largestRemainder(shares, total);
        const sum = shares.reduce((a, b) => a + b, 0);
        expect(counts.reduce((a, b) => a + b, 0)).toBe(total);
        counts.forEach((value, index) => {
          expect(Math.abs(value - (shares[index]! / sum) * total)).toBeLessThan(1 + 1e-9);
        });
      },
    ),
  );
});

/** `subjects` subjects of each label with `each` images. */
function images(labels: string[], subjects: number, each: number): Splittable[] {
  return labels.flatMap((label) =>
    Array.from({ length: subjects * each }, (_, index) => {
      const subject = `${label}${Math.floor(index / each)}`;
      return { key: `${subject}-${index % each}`, subject, label, split: null };
    }),
  );
}

describe('assignSplits', () => {
  test('never puts a subject on both sides when labels have subjects enough', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ subject: fc.integer({ min: 0, max: 40 }), label: fc.constantFrom('a', 'b', 'c') }),
          { minLength: 1, maxLength: 150 },
        ),
        fc.integer(),
        (drawn, seed) => {
          const items = drawn.map(({ subject, label }, index) => ({
            key: `k${index}`,
            subject: `s${subject}`,
            label,
            split: null,
          }));
          const splits = assignSplits(items, { seed });
          // Subjects with an image of a label that is split by subject.
          const bySubject = new Set(
            items
              .filter(({ label }) => {
                const subjects = items.filter((item) => item.label === label).map(({ subject }) => subject);
                return new Set(subjects).size >= minSubjectsToSplit;
              })
              .map(({ subject }) => subject),
          );
          for (const subject of bySubject) {
            const sides = new Set(splits.filter((_, index) => items[index]!.subject === subject));
            expect(sides.size).toBe(1);
          }
        },
      ),
    );
  });

  test('holds out a quarter of the subjects of every label', () => {
    const items = images(['a', 'b'], 12, 3);
    const splits = assignSplits(items, { seed: 3 });
    for (const label of ['a', 'b']) {
      const held = items.filter((item, index) => item.label === label && splits[index] === 'test');
      expect(held).toHaveLength(9);
      expect(new Set(held.map(({ subject }) => subject)).size).toBe(3);
    }
  });

  test('holds out single images where a label has few subjects, but never all', () => {
    const items = [...images(['a'], 1, 10), ...images(['b'], 1, 1), ...images(['c'], 3, 1)];
    const splits = assignSplits(items, { seed: 3 });
    const held = (label: string) =>
      items.filter((item, index) => item.label === label && splits[index] === 'test').length;
    expect([held('a'), held('b'), held('c')]).toEqual([3, 0, 1]);
  });

  test('keeps what the CSV says, and its subjects together', () => {
    const items = images(['a'], 8, 2);
    items[0] = { ...items[0]!, split: 'test' };
    items[2] = { ...items[2]!, split: 'train' };
    const splits = assignSplits(items, { seed: 3 });
    expect(splits.slice(0, 4)).toEqual(['test', 'test', 'train', 'train']);
    expect(splits.filter((split) => split === 'test')).toHaveLength(4);
  });

  test('keeps subjects of an earlier import on their side', () => {
    const items = images(['a'], 8, 2);
    const first = assignSplits(items, { seed: 3 });
    const known = new Map(items.map(({ subject }, index) => [subject, first[index]!]));
    const more = items.map((item) => ({ ...item, key: `${item.key}-new` }));
    expect(assignSplits(more, { seed: 99, known })).toEqual(first);
  });

  test('does not depend on the order of the images', () => {
    const items = images(['a', 'b'], 9, 2);
    const reversed = items.toReversed();
    expect(assignSplits(reversed, { seed: 8 }).toReversed()).toEqual(assignSplits(items, { seed: 8 }));
  });
});
