/** What options do in the aggregation of a round: their place in it, and what reaches the result. */
import { describe, expect, it } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import type { StrategyName } from '../../core/config/setting.ts';
import { type ModelState, nameOfB } from '../../core/lora/model-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import type { SiteUpdate } from '../../core/strategy/strategy.ts';
import { sentTensors } from '../../core/strategy/what-travels.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import {
  aggregateOnce,
  deltas,
  relativeError,
  roundOf,
  runSettings,
  squaredNorm,
  trainAs,
  weightedSum,
} from '../fixtures/strategy-rounds.ts';

const base = shapeOnlyBase();

/** A run's settings, its first state and five sites with equal numbers of images. */
function firstRound(strategy: StrategyName, changes: Partial<RunConfig> = {}) {
  const config = runSettings(base, { strategy, weighting: 'equal', ...changes });
  const start = createRunState(config, base);
  const sites: SiteUpdate[] = [1, 2, 3, 4, 5].map((site) => ({
    siteId: `site ${site}`,
    examples: 10,
    state: trainAs(config, base, start, 0, site),
  }));
  return { config, start, sites };
}

/** All values of a state that travel. */
function valuesOf(config: RunConfig, state: ModelState): Map<string, FloatTensor> {
  return sentTensors(state, roundOf(config, base, 0, state, []));
}

/** Another site's update with its change multiplied. */
function exaggerated({ start, sites, config }: ReturnType<typeof firstRound>, times: number): SiteUpdate {
  const state = trainAs(config, base, start, 0, 77);
  const far = (now: FloatTensor, before: FloatTensor) =>
    floatTensor(
      now.dims,
      now.data.map((value, i) => before.data[i]! + times * (value - before.data[i]!)),
    );
  const lora = [...state.lora].map(([module, layer]) => {
    const own = start.lora.get(module)!;
    return [module, { ...layer, a: far(layer.a, own.a), b: far(layer.b, own.b) }] as const;
  });
  const head = [...state.head].map(([name, tensor]) => [name, far(tensor, start.head.get(name)!)] as const);
  return { ...sites[0]!, siteId: 'far', state: { ...state, lora: new Map(lora), head: new Map(head) } };
}

const mean = (parts: readonly ReadonlyMap<string, FloatTensor>[]) =>
  weightedSum(parts.map((part) => [1 / parts.length, part]));

describe('privacy at the coordinator', () => {
  const privacy = { at: 'coordinator', clipNorm: 0.5, noiseMultiplier: 0, delta: 1e-5 } as const;

  it('clips every change before the mean', async () => {
    const { config, start, sites } = firstRound('fedavg-lora', { privacy });
    const { state } = await aggregateOnce(config, base, 0, start, sites);
    const before = valuesOf(config, start);
    const clipped = sites.map((site) => {
      const change = weightedSum([
        [1, valuesOf(config, site.state)],
        [-1, before],
      ]);
      return weightedSum([
        [1, before],
        [0.5 / Math.sqrt(squaredNorm(change)), change],
      ]);
    });
    expect(relativeError(valuesOf(config, state), mean(clipped))).toBeLessThan(1e-6);
  });

  it('clips changes of base weights from the base model itself in the first round', async () => {
    const { config, start, sites } = firstRound('fedavg-full', { privacy });
    const { state } = await aggregateOnce(config, base, 0, start, sites);
    const change = weightedSum([
      [1, new Map([...state.base, ...state.head])],
      [-1, new Map([...base.weights, ...start.head])],
    ]);
    const norm = Math.sqrt(squaredNorm(change));
    expect(norm).toBeGreaterThan(0.01);
    expect(norm).toBeLessThan(0.5);
  });

  it('adds noise of multiplier · norm / sites to every value that travels, and to no other', async () => {
    const { config, start, sites } = firstRound('ffa-lora', { privacy: { ...privacy, noiseMultiplier: 20 } });
    const bare = { ...config, privacy };
    const [noisy, plain] = [
      await aggregateOnce(config, base, 0, start, sites, { noise: createRandom(3) }),
      await aggregateOnce(bare, base, 0, start, sites),
    ];
    const noise = weightedSum([
      [1, valuesOf(config, noisy.state)],
      [-1, valuesOf(bare, plain.state)],
    ]);
    const count = [...noise.values()].reduce((sum, { data }) => sum + data.length, 0);
    const deviation = Math.sqrt(squaredNorm(noise) / count);
    // Hundreds of draws: within four standard errors of 20 · 0.5 / 5.
    expect(Math.abs(deviation - 2)).toBeLessThan((4 * 2) / Math.sqrt(2 * count));
    for (const [module, { a }] of noisy.state.lora) expect(a).toEqual(start.lora.get(module)!.a);
  });

  it('draws its noise from the operating system when it is given no source', async () => {
    const { config, start, sites } = firstRound('head-only', { privacy: { ...privacy, noiseMultiplier: 1 } });
    const { noise: _, ...round } = roundOf(config, base, 0, start, sites);
    const [x, y] = [
      await getStrategy('head-only').aggregateTrain(round),
      await getStrategy('head-only').aggregateTrain(round),
    ];
    expect(x.state.head.get('weight')!.data).not.toEqual(y.state.head.get('weight')!.data);
  });

  it.each(['sa-fedlora', 'flexlora', 'flora-stack', 'hetlora'] as const)(
    'is refused for %s, whose layers the noise would not reach',
    async (strategy) => {
      const { config, start, sites } = firstRound(strategy, { privacy });
      await expect(aggregateOnce(config, base, 0, start, sites)).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
      });
    },
  );
});

describe('robust rules', () => {
  it('scale an outsize change down to the bound, and say so', async () => {
    const round = firstRound('sa-fedlora', { robust: { rule: 'norm-bound', factor: 1 } });
    const { config, start, sites } = round;
    const result = await aggregateOnce(config, base, 0, start, [...sites, exaggerated(round, 100)]);
    const far = result.exclusions.find(({ siteId }) => siteId === 'far');
    expect(far?.reason).toContain('scaled down');
    const unbounded = await aggregateOnce({ ...config, robust: { rule: 'mean' } }, base, 0, start, [
      ...sites,
      exaggerated(round, 100),
    ]);
    const size = (state: ModelState) => Math.sqrt(squaredNorm(deltas(state)));
    const own = Math.max(...sites.map(({ state }) => size(state)));
    expect(size(unbounded.state)).toBeGreaterThan(10 * own);
    expect(size(result.state)).toBeLessThan(2 * own);
  });

  it.each(['sa-fedlora', 'fedavg-lora'] as const)(
    'leave a far update of %s out by multi-Krum',
    async (strategy) => {
      const round = firstRound(strategy, { robust: { rule: 'multi-krum', byzantine: 1 } });
      const { config, start, sites } = round;
      const result = await aggregateOnce(config, base, 0, start, [...sites, exaggerated(round, 50)]);
      const left = result.exclusions.map(({ siteId }) => siteId);
      expect(left).toContain('far');
      // What remains is as if only those had sent something.
      const kept = sites.filter(({ siteId }) => !left.includes(siteId));
      const alone = await aggregateOnce({ ...config, robust: { rule: 'mean' } }, base, 0, start, kept);
      expect(kept).toHaveLength(3);
      expect(relativeError(deltas(result.state), deltas(alone.state))).toBeLessThan(1e-5);
      expect(relativeError(result.state.head, alone.state.head)).toBeLessThan(1e-6);
      expect(result.drift.spread).toBeCloseTo(alone.drift.spread, 6);
    },
  );

  it('take the median of every value where factors are averaged', async () => {
    const round = firstRound('fedavg-lora', { robust: { rule: 'median' } });
    const { config, start, sites } = round;
    const { state } = await aggregateOnce(config, base, 0, start, sites);
    const name = nameOfB('body.q');
    const found = valuesOf(config, state).get(name)!.data;
    found.forEach((value, i) => {
      const sorted = sites
        .map((site) => valuesOf(config, site.state).get(name)!.data[i]!)
        .sort((x, y) => x - y);
      expect(value).toBe(sorted[2]);
    });
  });
});

describe('server optimisers', () => {
  it('go on from round to round by the memory', async () => {
    const serverOptimiser = { kind: 'momentum', learningRate: 1, beta: 0.5 } as const;
    const { config, start, sites } = firstRound('fedavg-lora', { serverOptimiser });
    const first = await aggregateOnce(config, base, 0, start, sites);
    const second = await aggregateOnce(config, base, 1, first.state, sites, { memory: first.memory });
    // v₁ = Δ₁ = m − x₀ and x₁ = m; v₂ = ½ v₁ + (m − x₁) = ½ (m − x₀), so x₂ = m + ½ (m − x₀).
    const merged = mean(sites.map(({ state }) => valuesOf(config, state)));
    const expected = weightedSum([
      [1.5, merged],
      [-0.5, valuesOf(config, start)],
    ]);
    expect(relativeError(valuesOf(config, second.state), expected)).toBeLessThan(1e-5);
  });

  it('carry the factors of hetlora on as well', async () => {
    const serverOptimiser = { kind: 'momentum', learningRate: 0.5, beta: 0.5 } as const;
    const { config, start, sites } = firstRound('hetlora', { serverOptimiser });
    const plain = await aggregateOnce(
      { ...config, serverOptimiser: { kind: 'none' } },
      base,
      0,
      start,
      sites,
    );
    const { state, memory } = await aggregateOnce(config, base, 0, start, sites);
    const halfway = weightedSum([
      [0.5, valuesOf(config, start)],
      [0.5, valuesOf(config, plain.state)],
    ]);
    expect(relativeError(valuesOf(config, state), halfway)).toBeLessThan(1e-6);
    expect(memory!.has('velocity.lora.body.q.a')).toBe(true);
  });

  it('leave drift as it is: that of the sites', async () => {
    const { config, start, sites } = firstRound('flexlora');
    const serverOptimiser = { kind: 'momentum', learningRate: 0.5, beta: 0.5 } as const;
    const plain = await aggregateOnce(config, base, 0, start, sites);
    const moved = await aggregateOnce({ ...config, serverOptimiser }, base, 0, start, sites);
    expect(moved.drift.spread).toBeCloseTo(plain.drift.spread, 6);
    expect(moved.drift.share).toBeCloseTo(plain.drift.share, 6);
  });

  it('start FedAvg of base weights from the base model', async () => {
    const serverOptimiser = { kind: 'momentum', learningRate: 0.25, beta: 0 } as const;
    const { config, start, sites } = firstRound('fedavg-full', { serverOptimiser });
    const { state } = await aggregateOnce(config, base, 0, start, sites);
    const merged = mean(sites.map((site) => site.state.base));
    expect(
      relativeError(
        state.base,
        weightedSum([
          [0.75, base.weights],
          [0.25, merged],
        ]),
      ),
    ).toBeLessThan(1e-6);
  });
});

describe('heads kept at the sites', () => {
  it('leave the global head as it was', async () => {
    for (const strategy of ['sa-fedlora', 'fedavg-lora', 'fedsa-lora'] as const) {
      const { config, start, sites } = firstRound(strategy, { localHead: true });
      const { state } = await aggregateOnce(config, base, 0, start, sites);
      expect(state.head).toEqual(start.head);
      expect(deltaWeight(state.lora.get('body.q')!).dims).toEqual([20, 12]);
    }
  });
});
