/** Clipping and noise on a change: norms, what is touched, and the distribution of the noise. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LoraLayer, type ModelState, nameOfA, nameOfB } from '../../core/lora/model-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import {
  addNoise,
  changeNorm,
  clipChange,
  noiseOfMean,
  protectUpdate,
} from '../../core/strategy/privacy/change.ts';
import { createCryptographicNoise, type GaussianSource } from '../../core/strategy/privacy/gaussian-noise.ts';
import { sentTensors } from '../../core/strategy/what-travels.ts';
import { randomLayer, randomTensor } from '../fixtures/random-state.ts';

const whole = {
  plan: { sends: 'both' },
  config: { localHead: false, strategy: 'fedavg-lora', freezeA: false },
} as const;

function randomState(seed: number, { r = 3, size = 1 } = {}): ModelState {
  const random = createRandom(seed);
  const lora = [randomLayer('q', [9, 7], r, 2, random), randomLayer('conv', [6, 4, 3, 3], r, 2, random)];
  return {
    baseSha256: 'ab'.repeat(32),
    classes: ['a', 'b'],
    lora: new Map(lora.map((layer) => [layer.module, layer])),
    head: new Map([
      ['weight', randomTensor([2, 5], random, size)],
      ['bias', randomTensor([2], random, size)],
    ]),
    base: new Map([['body.weight', randomTensor([4, 4], random, size)]]),
  };
}

interface MutableState extends ModelState {
  lora: Map<string, LoraLayer>;
  head: Map<string, FloatTensor>;
}

/** All differences of what travels, as one list. */
function differences(
  state: ModelState,
  start: ModelState,
  options: Parameters<typeof sentTensors>[1],
): number[] {
  const before = sentTensors(start, options);
  return [...sentTensors(state, options)].flatMap(([name, { data }]) =>
    [...data].map((value, i) => value - before.get(name)!.data[i]!),
  );
}

const lengthOf = (values: readonly number[]) =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

describe('the norm of a change', () => {
  it('is that of all differences as one vector', () => {
    const [start, state] = [randomState(1), randomState(2)];
    expect(changeNorm(state, start, whole)).toBeCloseTo(lengthOf(differences(state, start, whole)), 9);
  });

  it.each([
    ['only A travels', { ...whole, plan: { sends: 'a' } as const }, nameOfB('q')],
    ['only B travels', { ...whole, plan: { sends: 'b' } as const }, nameOfA('q')],
    ['the head stays', { ...whole, config: { ...whole.config, localHead: true } }, 'head.bias'],
  ])('leaves out what stays at the site: %s', (_what, options, absent) => {
    const [start, state] = [randomState(1), randomState(2)];
    expect(sentTensors(state, options).has(absent)).toBe(false);
    expect(changeNorm(state, start, options)).toBeCloseTo(lengthOf(differences(state, start, options)), 9);
    expect(changeNorm(state, start, options)).toBeLessThan(changeNorm(state, start, whole));
  });

  it('compares a site of a lower rank with the part of the factors that it had', () => {
    const start = randomState(1, { r: 4 });
    const [out, r] = [9, 2];
    const q = start.lora.get('q')!;
    const cutB = Float32Array.from({ length: out * r }, (_, i) => q.b.data[Math.floor(i / r) * 4 + (i % r)]!);
    const cut = {
      ...q,
      r,
      a: floatTensor([r, 7], q.a.data.slice(0, r * 7)),
      b: floatTensor([out, r], cutB),
    };
    cut.b.data[3]! += 0.5;
    const state = { ...start, lora: new Map([['q', cut]]) };

    expect(changeNorm(state, start, whole)).toBeCloseTo(0.5, 6);
  });

  it('starts from the base model where no round has replaced its weights yet', () => {
    const state = randomState(2);
    const start = { ...state, base: new Map() };
    const weight = floatTensor([4, 4], state.base.get('body.weight')!.data.slice());
    weight.data[5]! += 2;

    expect(
      changeNorm(state, start, { ...whole, baseWeights: new Map([['body.weight', weight]]) }),
    ).toBeCloseTo(2, 5);
    expect(() => changeNorm(state, start, whole)).toThrow(/"body.weight" is not a weight of the base model/);
  });

  it.each([
    [
      'another scale',
      (s: MutableState) => s.lora.set('q', { ...s.lora.get('q')!, scale: 3 }),
      /the scale 3 instead of 2/,
    ],
    ['an unknown layer', (s: MutableState) => s.lora.set('z', s.lora.get('q')!), /"z" was not asked for/],
    ['another shape', (s: MutableState) => s.head.set('bias', floatTensor([3])), /"head.bias" differs/],
    ['a value that is none', (s: MutableState) => s.head.get('bias')!.data.fill(Number.NaN), /not finite/],
  ])('refuses %s', (_what, spoil, message) => {
    const state = randomState(2);
    const mutable = { ...state, lora: new Map(state.lora), head: new Map(state.head) };
    spoil(mutable);
    expect(() => changeNorm(mutable, randomState(1), whole)).toThrow(message);
  });
});

describe('clipping', () => {
  it('never leaves more than the bound, keeps the direction, and leaves small changes as they are', () => {
    fc.assert(
      fc.property(fc.integer(), fc.double({ min: 1e-3, max: 50, noNaN: true }), (seed, clipNorm) => {
        const [start, state] = [randomState(1), randomState(seed)];
        const { state: clipped, norm, factor } = clipChange(state, start, { ...whole, clipNorm });

        expect(changeNorm(clipped, start, whole)).toBeLessThanOrEqual(clipNorm + 2e-6);
        expect(norm).toBe(changeNorm(state, start, whole));
        if (norm <= clipNorm) expect(clipped).toBe(state);
        else expect(factor).toBeCloseTo(clipNorm / norm, 12);
        const [now, before] = [differences(clipped, start, whole), differences(state, start, whole)];
        now.forEach((value, i) => {
          expect(Math.abs(value - factor * before[i]!)).toBeLessThan(1e-6);
        });
      }),
      { numRuns: 40 },
    );
  });

  it('leaves alone what does not travel', () => {
    const [start, state] = [randomState(1), randomState(2)];
    const options = {
      plan: { sends: 'b' },
      config: { localHead: true, strategy: 'ffa-lora', freezeA: false },
    } as const;
    const { state: clipped } = clipChange(state, start, { ...options, clipNorm: 0.01 });
    expect(clipped.head).toEqual(state.head);
    expect(clipped.lora.get('q')!.a).toEqual(state.lora.get('q')!.a);
    expect(clipped.lora.get('q')!.b).not.toEqual(state.lora.get('q')!.b);
  });
});

/** Kolmogorov's D of a sample against the standard normal distribution. */
function kolmogorovDistance(sample: readonly number[]): number {
  const sorted = Float64Array.from(sample).sort();
  return sorted.reduce((worst, value, i) => {
    const expected = standardNormal(value);
    return Math.max(
      worst,
      Math.abs(expected - i / sorted.length),
      Math.abs((i + 1) / sorted.length - expected),
    );
  }, 0);
}

/** Φ by Simpson's rule, to 1e-10 within 8 standard deviations. */
function standardNormal(x: number): number {
  const steps = 400;
  const width = x / steps;
  const density = (t: number) => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  let sum = density(0) + density(x);
  for (let i = 1; i < steps; i++) sum += (i % 2 === 1 ? 4 : 2) * density(i * width);
  return 0.5 + (sum * width) / 3;
}

/** Bounds that a right source exceeds less than once in ten thousand times; a seeded one always gives the same sample. */
function expectStandardNormal(sample: readonly number[]): void {
  const n = sample.length;
  const mean = sample.reduce((sum, value) => sum + value, 0) / n;
  const moment = (power: number) => sample.reduce((sum, value) => sum + (value - mean) ** power, 0) / n;
  expect(Math.abs(mean)).toBeLessThan(4.5 / Math.sqrt(n));
  expect(Math.abs(moment(2) - 1)).toBeLessThan(4.5 * Math.sqrt(2 / n));
  expect(Math.abs(moment(3))).toBeLessThan(4.5 * Math.sqrt(15 / n));
  expect(Math.abs(moment(4) - 3)).toBeLessThan(6 * Math.sqrt(96 / n));
  expect(kolmogorovDistance(sample) * Math.sqrt(n)).toBeLessThan(2.35);
}

const drawn = (source: GaussianSource, count: number) => Array.from({ length: count }, () => source.normal());

describe('noise', () => {
  it('of the operating system is standard normal, without ties between neighbours', () => {
    const sample = drawn(createCryptographicNoise(), 20_000);
    expectStandardNormal(sample);
    expect(new Set(sample).size).toBe(sample.length);
    const products = sample.slice(1).reduce((sum, value, i) => sum + value * sample[i]!, 0);
    expect(Math.abs(products / sample.length)).toBeLessThan(4.5 / Math.sqrt(sample.length));
  });

  it('the test tells wrong distributions apart: uniform, too wide, shifted, cut off', () => {
    const random = createRandom(3);
    const wrong: (() => number)[] = [
      () => (2 * random.uniform() - 1) * Math.sqrt(3),
      () => 1.05 * random.normal(),
      () => random.normal() + 0.05,
      () => Math.max(-2, Math.min(2, random.normal())),
    ];
    for (const normal of wrong) {
      expect(() => expectStandardNormal(drawn({ normal }, 20_000))).toThrow();
    }
  });

  it('falls on every value that travels with the standard deviation asked for, and on nothing else', () => {
    const random = createRandom(4);
    const lora = new Map([['q', randomLayer('q', [120, 80], 8, 2, random)]]);
    const state = { ...randomState(2, { size: 0 }), lora };
    const options = {
      plan: { sends: 'both' },
      config: { localHead: true, strategy: 'sa-fedlora', freezeA: false },
    } as const;

    const noisy = addNoise(state, state, { ...options, standardDeviation: 0.25, random: createRandom(5) });

    expectStandardNormal(differences(noisy, state, options).map((value) => value / 0.25));
    expect(noisy.head).toEqual(state.head);
    expect(addNoise(state, state, { ...options, standardDeviation: 0, random })).toBe(state);
  });

  it('of a site: a change far beyond the bound ends as the clipped change and noise of z·C', () => {
    const random = createRandom(6);
    const start = randomState(1);
    const layer = randomLayer('q', [200, 100], 8, 2, random);
    const begun = { ...start, lora: new Map([['q', layer]]) };
    const moved = {
      ...begun,
      lora: new Map([
        [
          'q',
          {
            ...layer,
            a: floatTensor(
              layer.a.dims,
              layer.a.data.map((v) => v + 10),
            ),
          },
        ],
      ]),
    };
    const privacy = { at: 'site', clipNorm: 0.5, noiseMultiplier: 2, delta: 1e-5 } as const;

    const { state, norm } = protectUpdate(moved, begun, { ...whole, privacy, random: createRandom(7) });

    expect(norm).toBeCloseTo(10 * Math.sqrt(layer.a.data.length), 3);
    const clipped = clipChange(moved, begun, { ...whole, clipNorm: 0.5 }).state;
    expectStandardNormal(differences(state, clipped, whole).map((value) => value / (2 * 0.5)));
  });

  it('of the coordinator is z·C on the sum, so z·C/n on the mean', () => {
    const privacy = { at: 'coordinator', clipNorm: 3, noiseMultiplier: 2, delta: 1e-5 } as const;
    expect(noiseOfMean(privacy, 4)).toBe(1.5);
  });

  it('refuses a standard deviation that is none', () => {
    const state = randomState(1);
    const random = createRandom(1);
    expect(() => addNoise(state, state, { ...whole, standardDeviation: Number.NaN, random })).toThrow(/NaN/);
  });
});
