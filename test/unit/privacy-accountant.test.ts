/** ε against Opacus, autodp and figures printed in papers; test/fixtures/privacy says how the values were made. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { AppError } from '../../core/shared/errors.ts';
import {
  drawnShare,
  epsilonOfParticipations,
  epsilonSpent,
  noiseMultiplierFor,
  privacySpent,
  renyiOrders,
} from '../../core/strategy/privacy/accountant.ts';
import { fixedSizeRenyi, gaussianRenyi, poissonRenyi } from '../../core/strategy/privacy/renyi.ts';

const renyiSchema = z.record(z.string(), z.number());
const reference = z
  .object({
    opacus: z.array(
      z.object({
        rate: z.number(),
        noiseMultiplier: z.number(),
        rounds: z.number(),
        delta: z.number(),
        epsilon: z.number(),
        order: z.number(),
        renyi: renyiSchema,
      }),
    ),
    fixedSize: z.array(z.object({ rate: z.number(), noiseMultiplier: z.number(), renyi: renyiSchema })),
  })
  .parse(JSON.parse(readFileSync(new URL('../fixtures/privacy/reference.json', import.meta.url), 'utf8')));

function expectRelative(found: number, expected: number, tolerance: number): void {
  expect(Math.abs(found - expected)).toBeLessThanOrEqual(tolerance * Math.abs(expected));
}

describe('against Opacus', () => {
  it.each(reference.opacus)('rate $rate, z $noiseMultiplier, $rounds rounds, δ $delta', (expected) => {
    const { rate, noiseMultiplier, rounds, delta } = expected;

    const { epsilon, order } = privacySpent({
      noiseMultiplier,
      rounds,
      delta,
      ...(rate < 1 ? { sampling: { kind: 'poisson', rate } } : {}),
    });

    expectRelative(epsilon, expected.epsilon, 1e-3);
    expect(Math.abs(order - expected.order)).toBeLessThan(0.11);
    for (const [alpha, divergence] of Object.entries(expected.renyi)) {
      expectRelative(poissonRenyi(Number(alpha), noiseMultiplier, rate), divergence, 1e-3);
    }
  });
});

describe('against figures printed in papers, which convert with log(1/δ)/(α − 1)', () => {
  const printed = (rate: number, noise: number, rounds: number, delta: number) =>
    Math.min(
      ...renyiOrders.map((a) => rounds * poissonRenyi(a, noise, rate) + Math.log(1 / delta) / (a - 1)),
    );
  const mnist = (noise: number, epochs: number) =>
    printed(256 / 60_000, noise, Math.round((epochs * 60_000) / 256), 1e-5);

  it('TensorFlow Privacy, DP-SGD on MNIST: 1.19, 3.01 and 7.10', () => {
    expect(mnist(1.3, 15)).toBeCloseTo(1.19, 2);
    expect(mnist(1.1, 60)).toBeCloseTo(3.01, 2);
    expect(mnist(0.7, 45)).toBeCloseTo(7.1, 2);
  });

  it('Abadi et al. 2016, section 3.2 (q = 0.01, σ = 4, 10 000 steps): 1.26', () => {
    expect(printed(0.01, 4, 10_000, 1e-5)).toBeCloseTo(1.26, 2);
  });

  it('the conversion used here gives less than that, and never less than the exact Gaussian curve', () => {
    expect(epsilonSpent({ noiseMultiplier: 1, rounds: 1, delta: 1e-5 })).toBeLessThan(
      Math.min(...renyiOrders.map((a) => gaussianRenyi(a, 1) + Math.log(1e5) / (a - 1))),
    );
    // Balle and Wang 2018, arXiv 1805.06530: the Gaussian mechanism of σ = 1 is (4.377, 1e-5)-private.
    expect(epsilonSpent({ noiseMultiplier: 1, rounds: 1, delta: 1e-5 })).toBeGreaterThan(4.377);
  });
});

describe('a fixed number of sites drawn without replacement', () => {
  it.each(reference.fixedSize)('is the bound of autodp at rate $rate, z $noiseMultiplier', (expected) => {
    for (const [alpha, divergence] of Object.entries(expected.renyi)) {
      const { noiseMultiplier, rate } = expected;
      const bound = Math.min(divergence, gaussianRenyi(Number(alpha), noiseMultiplier));
      expectRelative(fixedSizeRenyi(Number(alpha), noiseMultiplier, rate), bound, 1e-9);
    }
  });

  it('claims what Poisson sampling does where nearly all take part', () => {
    const rate = 0.9999999700444031;
    // At order 2: E[ratio²] = 1 − q² + q² e^{1/z²}.
    const exact = Math.log1p(rate ** 2 * Math.expm1(1 / 0.3 ** 2));
    expectRelative(poissonRenyi(2, 0.3, rate), exact, 1e-13);
  });

  it('never claims what Poisson sampling would give, nor loses to no sampling', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 63 }),
        fc.double({ min: 0.3, max: 20, noNaN: true }),
        fc.double({ min: 0.001, max: 1, noNaN: true }),
        (order, noise, rate) => {
          const fixed = fixedSizeRenyi(order, noise, rate);
          expect(fixed).toBeGreaterThanOrEqual(poissonRenyi(order, noise, rate) * (1 - 1e-9));
          expect(fixed).toBeLessThanOrEqual(gaussianRenyi(order, noise));
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('what ε must do', () => {
  const settings = fc.record({
    noiseMultiplier: fc.double({ min: 0.3, max: 30, noNaN: true }),
    rounds: fc.integer({ min: 1, max: 500 }),
    delta: fc.double({ min: 1e-9, max: 0.1, noNaN: true }),
  });

  it('grows with rounds and the share of sites, falls with noise and δ', () => {
    fc.assert(
      fc.property(settings, fc.double({ min: 0.01, max: 0.5, noNaN: true }), (own, rate) => {
        const epsilon = (changes: Partial<typeof own>, q = rate) =>
          epsilonSpent({ ...own, ...changes, sampling: { kind: 'poisson', rate: q } });
        const before = epsilon({});
        expect(epsilon({ rounds: own.rounds + 1 })).toBeGreaterThanOrEqual(before);
        expect(epsilon({}, rate * 1.5)).toBeGreaterThanOrEqual(before * (1 - 1e-9));
        expect(epsilon({ noiseMultiplier: own.noiseMultiplier * 1.2 })).toBeLessThanOrEqual(before);
        expect(epsilon({ delta: own.delta * 2 })).toBeLessThanOrEqual(before);
      }),
      { numRuns: 30 },
    );
  });

  it('is nothing without rounds and without bound without noise', () => {
    expect(epsilonSpent({ noiseMultiplier: 1, rounds: 0, delta: 1e-5 })).toBe(0);
    expect(epsilonSpent({ noiseMultiplier: 0, rounds: 3, delta: 1e-5 })).toBe(Number.POSITIVE_INFINITY);
    expect(
      epsilonSpent({ noiseMultiplier: 1, rounds: 3, delta: 1e-5, sampling: { kind: 'fixed-size', rate: 0 } }),
    ).toBe(0);
  });

  it('of a run is that of the rounds a site took part in, without a gain from drawing', () => {
    const privacy = { at: 'coordinator', clipNorm: 3, noiseMultiplier: 2, delta: 1e-5 } as const;
    expect(epsilonOfParticipations(privacy, 7)).toBe(
      epsilonSpent({ noiseMultiplier: 2, rounds: 7, delta: 1e-5 }),
    );
  });

  it('a drawn share is never below the quorum and never above all sites', () => {
    expect(drawnShare({ participation: 0.1, quorum: 1, sites: 30 })).toBeCloseTo(0.1, 12);
    expect(drawnShare({ participation: 0.25, quorum: 1, sites: 10 })).toBeCloseTo(0.3, 12);
    expect(drawnShare({ participation: 0.1, quorum: 6, sites: 10 })).toBeCloseTo(0.6, 12);
    expect(drawnShare({ participation: 1, quorum: 12, sites: 10 })).toBe(1);
  });

  it('finds the noise for a wanted ε', () => {
    const target = { rounds: 20, delta: 1e-5, epsilon: 4 };
    const noiseMultiplier = noiseMultiplierFor(target);
    expect(epsilonSpent({ ...target, noiseMultiplier })).toBeLessThanOrEqual(4);
    expect(epsilonSpent({ ...target, noiseMultiplier: noiseMultiplier * 0.995 })).toBeGreaterThan(4);
  });

  it.each([
    { noiseMultiplier: Number.NaN, rounds: 1, delta: 1e-5 },
    { noiseMultiplier: 1, rounds: 1.5, delta: 1e-5 },
    { noiseMultiplier: 1, rounds: 1, delta: 0 },
    { noiseMultiplier: 1, rounds: 1, delta: 1e-5, sampling: { kind: 'poisson', rate: 2 } as const },
  ])('refuses %o', (wrong) => {
    expect(() => privacySpent(wrong)).toThrow(AppError);
  });

  it('says when no noise can be enough', () => {
    expect(() => noiseMultiplierFor({ rounds: 1000, delta: 1e-9, epsilon: 1e-4 })).toThrow(
      /No noise multiplier/,
    );
  });
});
