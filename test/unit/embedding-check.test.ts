/** Networks whose embeddings say nothing about a face are refused, with advice that fits what was said about their pixels. */
import { describe, expect, test } from 'vitest';
import type { BaseModel, Preprocessing } from '../../core/models/base-model.ts';
import { embeddingSpread, leastSpread, requireDifferences } from '../../core/policy/embedding-check.ts';
import { createRandom } from '../../core/shared/random.ts';

const pixels: Preprocessing = {
  source: 'given',
  inside: null,
  channelOrder: 'rgb',
  channelSource: 'assumed',
};
const base = (preprocessing?: Preprocessing) =>
  ({ id: 'face-net', ...(preprocessing === undefined ? {} : { preprocessing }) }) as BaseModel;

/** Rows of length about 1 that are `apart` of it away from each other. */
function rows(count: number, width: number, apart: number): Float32Array {
  const random = createRandom(3);
  return Float32Array.from(
    { length: count * width },
    () => 1 / Math.sqrt(width) + (apart * random.normal()) / Math.sqrt(width),
  );
}

test('the spread is the share in which embeddings differ', () => {
  expect(embeddingSpread(rows(200, 64, 0.1), 64)).toBeCloseTo(0.1, 2);
  expect(embeddingSpread(rows(200, 64, 0), 64)).toBeLessThan(1e-6);
  // Opposite directions have their mean at 0.
  expect(embeddingSpread(Float32Array.of(1, 2, -1, -2), 2)).toBe(1);
});

test('embeddings that differ pass', () => {
  requireDifferences(base(), rows(16, 32, 2 * leastSpread), 32);
});

test('embeddings that differ little pass only where nothing says that pixels are normalised twice', () => {
  const inside = { range: 255, mean: [127.5, 127.5, 127.5], deviation: [128, 128, 128] } as const;
  const little = rows(16, 32, 0.04);

  requireDifferences(base(pixels), little, 32);
  requireDifferences(base({ ...pixels, source: 'recognised', inside }), little, 32);
  expect(() => requireDifferences(base({ ...pixels, inside }), little, 32)).toThrow(/nearly the same/);
});

describe('embeddings that say nothing are refused', () => {
  test.each([
    ['hardly differ', rows(16, 32, leastSpread / 4), /nearly the same embedding .* differ by 0\.\d+ %/],
    ['are all the same', new Float32Array(64).fill(3), /differ by 0 %/],
    ['are all zero', new Float32Array(64), /nothing but zeros/],
    ['are no numbers', new Float32Array(64).fill(Number.NaN), /no finite numbers/],
    ['are infinite', new Float32Array(64).fill(Infinity), /no finite numbers/],
  ])('they %s', (_what, embeddings, message) => {
    expect(() => requireDifferences(base(pixels), embeddings, 32)).toThrow(
      expect.objectContaining({ code: 'MODEL_UNSUITABLE', message: expect.stringMatching(message) }),
    );
  });

  test.each<[string, Preprocessing | undefined, string]>([
    ['given', pixels, 'Check mean, standard deviation and range (--mean, --std, --range)'],
    [
      'given, although the file normalises itself',
      { ...pixels, inside: { range: 255, mean: [0, 0, 0], deviation: [255, 255, 255] } },
      'import it without saying how (without --mean, --std and --range)',
    ],
    ['recognised', { ...pixels, source: 'recognised' }, '(--range, or --mean and --std)'],
    ['of a folder', undefined, 'Check mean and standard deviation'],
  ])('the advice follows from what is known of the pixels: %s', (_what, preprocessing, action) => {
    expect(() => requireDifferences(base(preprocessing), new Float32Array(64).fill(3), 32)).toThrow(
      expect.objectContaining({ action: expect.stringContaining(action) }),
    );
  });
});
