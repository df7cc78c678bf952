import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { columnPartition, evenPartition, shardsPartition } from '../../core/data/partition.ts';
import { sha256 } from '../../core/shared/hash.ts';
import type { SimulationImage } from '../../core/simulation/dataset.ts';
import { chooseImages, type SpreadOptions, spreadImages } from '../../core/simulation/spread.ts';

const labelsOf = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 90 });
const sizes = (siteOf: readonly number[], sites: number) =>
  Array.from({ length: sites }, (_, site) => siteOf.filter((other) => other === site).length);

describe('partitions', () => {
  test('evenPartition deals every label and all items evenly', () => {
    fc.assert(
      fc.property(labelsOf, fc.integer({ min: 1, max: 7 }), fc.integer(), (labels, sites, seed) => {
        const siteOf = evenPartition(labels, { sites, seed });

        const spread = (values: readonly number[]) => Math.max(...values) - Math.min(...values);
        expect(spread(sizes(siteOf, sites))).toBeLessThanOrEqual(1);
        for (const label of 'abc') {
          const own = siteOf.filter((_, index) => labels[index] === label);
          expect(spread(sizes(own, sites))).toBeLessThanOrEqual(1);
        }
        expect(siteOf).toEqual(evenPartition(labels, { sites, seed }));
      }),
    );
  });

  test('shardsPartition gives sites of one size with few labels each', () => {
    const labels = Array.from({ length: 200 }, (_, index) => String(index % 10));
    const siteOf = shardsPartition(labels, { sites: 10, shardsPerSite: 2, seed: 4 });

    expect(sizes(siteOf, 10)).toEqual(new Array(10).fill(20));
    for (let site = 0; site < 10; site++) {
      const own = new Set(labels.filter((_, index) => siteOf[index] === site));
      expect(own.size).toBeLessThanOrEqual(2);
    }
    expect(siteOf).not.toEqual(shardsPartition(labels, { sites: 10, shardsPerSite: 2, seed: 5 }));
    expect(() => shardsPartition(['a'], { sites: 2, shardsPerSite: 2, seed: 1 })).toThrow(RangeError);
  });

  test('columnPartition makes a site of each value', () => {
    expect(columnPartition(['y', 'x', 'y'])).toEqual({ sites: ['x', 'y'], siteOf: [1, 0, 1] });
  });
});

/** `perLabel` subjects of each label with two images; the last of each label is held out. */
function images(labels: readonly string[], perLabel: number): SimulationImage[] {
  return labels.flatMap((label) =>
    Array.from({ length: perLabel * 2 }, (_, index) => {
      const subject = `${label}${Math.floor(index / 2)}`;
      const file = `${subject}-${index % 2}.png`;
      const split = Math.floor(index / 2) === perLabel - 1 ? ('test' as const) : ('train' as const);
      return {
        file,
        sha256: sha256(file),
        cropSha256: sha256(`crop ${file}`),
        cropKind: 'cropped' as const,
        label,
        subject,
        split,
        width: 8,
        height: 8,
      };
    }),
  );
}

const choice = {
  data: { alreadyCropped: true, seed: 0, maxPerClass: {} },
  evaluateOn: 'test' as const,
  validationShare: 0.25,
};

describe('chooseImages', () => {
  test('a validation takes whole subjects from the training images and no test image', () => {
    const all = images(['a', 'b'], 9);
    const used = chooseImages(all, { ...choice, evaluateOn: 'validation' });

    const test = new Set(all.filter(({ split }) => split === 'test').map(({ sha256: hash }) => hash));
    expect([...used.train, ...used.evaluation].some(({ sha256: hash }) => test.has(hash))).toBe(false);
    const trained = new Set(used.train.map(({ subject }) => subject));
    expect(used.evaluation.length).toBe(8);
    expect(used.evaluation.some(({ subject }) => trained.has(subject))).toBe(false);
    expect(used.train.length + used.evaluation.length).toBe(32);
  });

  test('takes at most so many of a class, the same ones each time', () => {
    const limited = { ...choice, data: { ...choice.data, maxPerClass: { train: 5, test: 1 } } };
    const used = chooseImages(images(['a', 'b'], 9), limited);

    expect(used.train).toHaveLength(10);
    expect(used.evaluation).toHaveLength(2);
    expect(used.classes).toEqual(['a', 'b']);
    expect(chooseImages(images(['a', 'b'], 9), limited)).toEqual(used);
  });

  test('takes the first classes by name, and the same of their images as without the others', () => {
    const limited = { ...choice, data: { ...choice.data, maxClasses: 2, maxPerClass: { train: 5 } } };
    const used = chooseImages(images(['c', 'a', 'b'], 9), limited);

    expect(used.classes).toEqual(['a', 'b']);
    expect(new Set(used.evaluation.map(({ label }) => label))).toEqual(new Set(['a', 'b']));
    const all = chooseImages(images(['c', 'a', 'b'], 9), {
      ...choice,
      data: { ...choice.data, maxPerClass: { train: 5 } },
    });
    expect(used.train).toEqual(all.train.filter(({ label }) => label !== 'c'));
  });

  test('refuses one class, and nothing to evaluate on', () => {
    expect(() => chooseImages(images(['a'], 4), choice)).toThrow(/fewer than two classes/);
    const train = images(['a', 'b'], 4).filter(({ split }) => split === 'train');
    expect(() => chooseImages(train, choice)).toThrow(/No image is left/);
  });
});

describe('spreadImages', () => {
  const used = chooseImages(images(['a', 'b', 'c'], 12), choice);
  const options: SpreadOptions = {
    partition: { kind: 'dirichlet', alpha: 0.3 },
    sites: 4,
    seed: 7,
    keepTogether: 'auto',
    evaluationSpread: 'even',
  };

  test('every image lies at one site, and a subject with all of its images', () => {
    for (const partition of [
      { kind: 'iid' } as const,
      { kind: 'shards', perSite: 2 } as const,
      options.partition,
    ]) {
      const sites = spreadImages(used, { ...options, partition });

      const placed = sites.flatMap(({ train }) => train.map(({ sha256: hash }) => hash));
      expect(placed.toSorted()).toEqual(used.train.map(({ sha256: hash }) => hash).toSorted());
      const homes = sites.flatMap(({ siteId, train }) =>
        [...new Set(train.map(({ subject }) => subject))].map((subject) => ({ siteId, subject })),
      );
      expect(new Set(homes.map(({ subject }) => subject)).size).toBe(homes.length);
    }
  });

  test('a column decides sites and their names; an empty cell is refused with the file', () => {
    const column = new Map(
      [...used.train, ...used.evaluation].map(({ file, label }) => [file, `clinic ${label}`]),
    );
    const byColumn = { ...options, partition: { kind: 'column', column: 'clinic' } as const };
    const sites = spreadImages(used, { ...byColumn, column });

    expect(sites.map(({ siteId, name }) => [siteId, name])).toEqual([
      ['site-01', 'clinic a'],
      ['site-02', 'clinic b'],
      ['site-03', 'clinic c'],
    ]);
    const { file } = used.train[0]!;
    column.set(file, '');
    expect(() => spreadImages(used, { ...byColumn, column })).toThrow(file);
  });

  test('evaluation like training follows the sites’ shares of each class', () => {
    const column = new Map([...used.train].map(({ file, label }) => [file, label]));
    expect(column.size).toBe(66);
    const partition = { kind: 'dirichlet', alpha: 0.05 } as const;
    const sites = spreadImages(used, { ...options, partition, evaluationSpread: 'like-training' });

    for (const { train, evaluation } of sites) {
      const trained = new Set(train.map(({ label }) => label));
      expect(evaluation.every(({ label }) => trained.has(label))).toBe(true);
    }
    expect(sites.flatMap(({ evaluation }) => evaluation)).toHaveLength(6);
  });

  test('more sites than images to place are refused', () => {
    expect(() => spreadImages(used, { ...options, sites: 50, keepTogether: 'subject' })).toThrow(
      /no images to train with/,
    );
  });
});
