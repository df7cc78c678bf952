import { describe, expect, test } from 'vitest';
import { seededImages, seededUniform } from '../fixtures/pytorch/seeded-values.ts';

// Expected values: seeded_values.py.
describe('seeded values', () => {
  test('are those that Python makes', () => {
    expect([...seededUniform('a/b', [4], [-1, 1]).data]).toEqual([
      0.2586916983127594, 0.4896458387374878, 0.06545770168304443, -0.07397013902664185,
    ]);
    expect([...seededImages('p', 2, 10).subarray(-6)]).toEqual([4, 5, 143, 47, 168, 30]);
  });
});
