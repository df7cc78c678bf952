import { describe, expect, test } from 'vitest';
import { createPlainProducts } from '../../core/linalg/matrix-products.ts';
import { correlationOf, rebuildHeldOut, similarityOf } from '../../core/policy/leak-test-decoder.ts';
import { createRandom } from '../../core/shared/random.ts';

const products = createPlainProducts();
const count = 60;
const split = { fitted: 40, tuning: 8 };
const heldOut = count - split.fitted - split.tuning;
const pixels = 25;
/** Independent things in which the images differ. */
const factors = 6;

/** Images that are sums of a few patterns, and how much of each is in them. */
function world(seed: number) {
  const random = createRandom(seed);
  const normals = (length: number) => Float64Array.from({ length }, () => random.normal());
  const patterns = normals(factors * pixels);
  const amounts = normals(count * factors);
  const images = Float64Array.from({ length: count * pixels }, (_, at) => {
    const [face, pixel] = [Math.floor(at / pixels), at % pixels];
    let value = 128;
    for (let k = 0; k < factors; k++) {
      value += 20 * amounts[face * factors + k]! * patterns[k * pixels + pixel]!;
    }
    return value;
  });
  return { random, amounts, images };
}

async function meanCorrelation(embeddings: Float32Array, images: Float64Array): Promise<number> {
  const rebuilt = await rebuildHeldOut({ count, embeddings, images }, split, products);
  let sum = 0;
  for (let face = 0; face < heldOut; face++) {
    const deviations = (all: Float64Array, first: number) =>
      all
        .slice((first + face) * pixels, (first + face + 1) * pixels)
        .map((value, at) => value - rebuilt.meanFace[at]!);
    sum += correlationOf(deviations(rebuilt.images, 0), deviations(images, count - heldOut));
  }
  return sum / heldOut;
}

describe('the linear decoder', () => {
  test('rebuilds images whose every factor is in the embedding', async () => {
    const { amounts, images } = world(1);

    expect(await meanCorrelation(Float32Array.from(amounts), images)).toBeGreaterThan(0.999);
  });

  test('rebuilds nothing from an embedding that knows nothing', async () => {
    const { random, images } = world(2);
    const embeddings = Float32Array.from({ length: count * 10 }, () => random.normal());

    expect(Math.abs(await meanCorrelation(embeddings, images))).toBeLessThan(0.25);
  });

  test('rebuilds from half of the factors what they explain, no more', async () => {
    const { amounts, images } = world(3);
    const half = Float32Array.from({ length: (count * factors) / 2 }, (_, at) => {
      const [face, k] = [Math.floor(at / (factors / 2)), at % (factors / 2)];
      return amounts[face * factors + k]!;
    });

    const correlation = await meanCorrelation(half, images);

    expect(correlation).toBeGreaterThan(0.5);
    expect(correlation).toBeLessThan(0.9);
  });

  test('finds the image in numbers that are tiny beside a loud one', async () => {
    const { random, amounts, images } = world(4);
    const width = factors + 1;
    const embeddings = Float32Array.from({ length: count * width }, (_, at) => {
      const [face, k] = [Math.floor(at / width), at % width];
      return k === factors ? 1e6 * random.normal() : 1e-6 * amounts[face * factors + k]!;
    });

    expect(await meanCorrelation(embeddings, images)).toBeGreaterThan(0.99);
  });

  test('reads all of an embedding that is multiplied in parts', async () => {
    const { amounts, images } = world(5);
    // The factors stand behind the first part, which is constant.
    const width = 4_096 + factors;
    const embeddings = Float32Array.from({ length: count * width }, (_, at) => {
      const [face, k] = [Math.floor(at / width), (at % width) - 4_096];
      return k < 0 ? 7 : amounts[face * factors + k]!;
    });

    expect(await meanCorrelation(embeddings, images)).toBeGreaterThan(0.999);
  });

  test('gives the mean face for an embedding that is always the same', async () => {
    const { images } = world(6);
    const embeddings = new Float32Array(count * 4).fill(3);

    const rebuilt = await rebuildHeldOut({ count, embeddings, images }, split, products);

    expect(rebuilt.images.subarray(0, pixels)).toEqual(rebuilt.meanFace);
  });
});

describe('the scores', () => {
  test.each([
    ['a multiple', [2, 4, 6, 8], 1],
    ['its negative', [-1, -2, -3, -4], -1],
    ['something at right angles', [1, -1, -1, 1], 0],
    ['a constant', [5, 5, 5, 5], 0],
  ])('correlation with %s', (_name, other, expected) => {
    expect(correlationOf([1, 2, 3, 4], other)).toBeCloseTo(expected, 12);
  });

  const side = 32;
  const stripes = Float64Array.from({ length: side ** 2 }, (_, at) => (at % 4 < 2 ? 60 : 190));

  test('similarity of an image with itself is 1', () => {
    expect(similarityOf(stripes, stripes.slice())).toBeCloseTo(1, 6);
  });

  test('similarity of two plain images is that of their brightness alone', () => {
    // The formula with variances and covariance 0: (2ab + c) / (a² + b² + c), c = (0.01 · 255)².
    const [a, b, c] = [100, 150, 2.55 ** 2];
    const plain = (value: number) => new Float64Array(side ** 2).fill(value);

    expect(similarityOf(plain(a), plain(b))).toBeCloseTo((2 * a * b + c) / (a * a + b * b + c), 4);
  });

  test('similarity falls where structure is lost, though the mean stays', () => {
    const noise = createRandom(8);
    const noisy = stripes.map((value) => value + 40 * noise.normal());
    const grey = new Float64Array(side ** 2).fill(125);

    expect(similarityOf(noisy, stripes)).toBeLessThan(0.95);
    expect(similarityOf(grey, stripes)).toBeLessThan(similarityOf(noisy, stripes));
    expect(similarityOf(grey, stripes)).toBeLessThan(0.1);
  });
});
