import { describe, expect, test } from 'vitest';
import { epsilonOf } from '../../core/coordinator/privacy-spent.ts';
import { participantsOf, substitutesOf } from '../../core/strategy/participation.ts';

const sites = Array.from({ length: 10 }, (_, index) => `site-${index}`);
const config = { participation: 0.3, quorum: 1, seed: 7 };

describe('sites drawn for a round', () => {
  test('the same draw whatever the order, another one in another round or run', () => {
    const drawn = participantsOf(config, 4, sites);

    expect(participantsOf(config, 4, [...sites].reverse())).toEqual(drawn);
    expect(participantsOf(config, 5, sites)).not.toEqual(drawn);
    expect(participantsOf({ ...config, seed: 8 }, 4, sites)).not.toEqual(drawn);
  });

  test.each([
    [0.3, 1, 10, 3],
    [0.31, 1, 10, 4],
    // 0.1 · 30 is above 3 in binary.
    [0.1, 1, 30, 3],
    [0.01, 1, 10, 1],
    [0.3, 5, 10, 5],
    [0.5, 8, 4, 4],
    [1, 1, 10, 10],
    [0.5, 1, 0, 0],
  ])('share %d, quorum %d, %d sites: %d', (participation, quorum, count, expected) => {
    const given = Array.from({ length: count }, (_, index) => `site-${index}`);

    const drawn = participantsOf({ participation, quorum, seed: 1 }, 0, given);

    expect(drawn).toHaveLength(expected);
    expect(new Set(drawn).size).toBe(expected);
    expect(drawn.every((site) => given.includes(site))).toBe(true);
  });

  test('no more than a manifest names, however many sites join during the run', () => {
    const many = Array.from({ length: 50 }, (_, index) => `site-${index}`);

    expect(participantsOf({ participation: 0.9, quorum: 1, seed: 1 }, 0, many, 20)).toHaveLength(20);
    expect(participantsOf({ participation: 0.9, quorum: 1, seed: 1 }, 0, many)).toHaveLength(45);
  });

  test('every site and every pair comes equally often', () => {
    const rounds = 4000;
    const single = new Map<string, number>();
    const pairs = new Map<string, number>();
    for (let round = 0; round < rounds; round++) {
      const drawn = participantsOf(config, round, sites);
      for (const [index, site] of drawn.entries()) {
        single.set(site, (single.get(site) ?? 0) + 1);
        for (const other of drawn.slice(index + 1)) {
          const pair = `${site} ${other}`;
          pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
        }
      }
    }

    // Five standard deviations of the binomial counts.
    for (const count of single.values()) expect(Math.abs(count - rounds * 0.3)).toBeLessThan(145);
    expect(pairs.size).toBe(45);
    const expectedPairs = rounds * ((3 * 2) / (10 * 9));
    for (const count of pairs.values()) expect(Math.abs(count - expectedPairs)).toBeLessThan(80);
  });

  test('substitutes are drawn from the others, anew when more are needed', () => {
    const draws = Array.from({ length: 20 }, (_, drawnBefore) =>
      substitutesOf(config, 0, sites, { count: 2, drawnBefore }).join(' '),
    );

    expect(substitutesOf(config, 0, sites, { count: 20, drawnBefore: 1 })).toEqual(sites);
    expect(new Set(draws).size).toBeGreaterThan(10);
  });
});

test('epsilon is that of the site that took part most often, and none without noise', () => {
  const privacy = { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } as const;

  const [once, twice] = [epsilonOf({ privacy }, [1, 1, 0]), epsilonOf({ privacy }, [0, 2, 1])];

  expect(twice!).toBeGreaterThan(once!);
  expect(twice!).toBeLessThan(2 * once!);
  expect(epsilonOf({ privacy }, [])).toBe(0);
  expect(epsilonOf({ privacy: null }, [3])).toBeNull();
  // Infinite, which a database and JSON cannot say.
  expect(epsilonOf({ privacy: { ...privacy, noiseMultiplier: 0 } }, [3])).toBeNull();
});
