/** Each strategy against its paper's formula, written out plainly. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import type { StrategyName } from '../../core/config/setting.ts';
import type { LoraLayer, ModelState } from '../../core/lora/model-state.ts';
import type { FloatTensor } from '../../core/shared/tensor.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { siteStart } from '../../core/strategy/site-rank.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { denseMean, randomRounds } from '../fixtures/random-rounds.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import {
  aggregateOnce,
  deltas,
  relativeError,
  runSettings,
  squaredNorm,
  trainAs,
  weightedSum,
} from '../fixtures/strategy-rounds.ts';

const base = shapeOnlyBase();
const settings = (strategy: StrategyName, changes: Partial<RunConfig> = {}) =>
  runSettings(base, { strategy, ...changes });

/** Three sites with 10, 20 and 30 images. */
function threeSites(config: RunConfig, global: ModelState, round = 0) {
  return [1, 2, 3].map((site) => ({
    siteId: `site ${site}`,
    examples: 10 * site,
    state: trainAs(config, base, siteStart(config, `site ${site}`, global), round, 10 * round + site),
  }));
}
const shares = [1 / 6, 2 / 6, 3 / 6];

const factorsOf = (state: ModelState, factor: 'a' | 'b') =>
  new Map([...state.lora].map(([module, layer]) => [module, layer[factor]]));
const meanOf = (
  states: readonly ModelState[],
  pick: (state: ModelState) => ReadonlyMap<string, FloatTensor>,
) => weightedSum(states.map((state, k) => [shares[k]!, pick(state)]));
const isZero = ({ data }: FloatTensor) => data.every((value) => value === 0);

describe('fedavg-full and fedprox-full', () => {
  it('average all weights of the base model; the second pulls towards the global ones in every round', async () => {
    for (const strategy of ['fedavg-full', 'fedprox-full'] as const) {
      const config = settings(strategy, { proximal: 0.3 });
      const start = createRunState(config, base);
      const sites = threeSites(config, start);
      const { state } = await aggregateOnce(config, base, 0, start, sites);
      const states = sites.map((site) => site.state);
      expect([...state.base.keys()]).toEqual([...base.weights.keys()]);
      expect(
        relativeError(
          state.base,
          meanOf(states, (each) => each.base),
        ),
      ).toBeLessThan(1e-6);
      expect(
        relativeError(
          state.head,
          meanOf(states, (each) => each.head),
        ),
      ).toBeLessThan(1e-6);
      for (let round = 0; round < config.rounds; round++) {
        const plan = getStrategy(strategy).configureTrain(config, round);
        expect(plan).toMatchObject({ mode: 'full', proximal: strategy === 'fedprox-full' ? 0.3 : 0 });
      }
    }
  });
});

describe('fedavg-lora', () => {
  it('averages A and B apart, which is not the mean of the products', async () => {
    const config = settings('fedavg-lora');
    const start = createRunState(config, base);
    const sites = threeSites(config, start);
    const { state } = await aggregateOnce(config, base, 0, start, sites);
    const states = sites.map((site) => site.state);
    for (const factor of ['a', 'b'] as const) {
      const mean = meanOf(states, (each) => factorsOf(each, factor));
      expect(relativeError(factorsOf(state, factor), mean)).toBeLessThan(1e-6);
    }
    expect(relativeError(deltas(state), meanOf(states, deltas))).toBeGreaterThan(0.01);
  });

  it('refuses a site of another rank or scale, whose factors have no mean with the others', async () => {
    const config = settings('fedavg-lora');
    const start = createRunState(config, base);
    const [good, , other] = threeSites({ ...config, siteRanks: { 'site 3': 2 } }, start);
    const rescaled = {
      ...good!,
      siteId: 'x',
      state: withLayers(good!.state, (layer) => ({ ...layer, scale: 3 })),
    };
    for (const bad of [other!, rescaled]) {
      await expect(aggregateOnce(config, base, 0, start, [good!, bad])).rejects.toMatchObject({
        code: 'UPDATE_REJECTED',
        message: expect.stringContaining('must keep rank 6 and scale 2'),
      });
    }
  });
});

describe('ffa-lora', () => {
  it('trains and sends B alone, so that the mean of the factors is the mean of the products', async () => {
    const config = settings('ffa-lora');
    const start = createRunState(config, base);
    expect(getStrategy('ffa-lora').configureTrain(config, 3)).toMatchObject({
      trains: 'b',
      sends: 'b',
      rank: 6,
    });
    const sites = threeSites(config, start);
    const { state } = await aggregateOnce(config, base, 0, start, sites);
    for (const [module, layer] of state.lora) expect(layer.a).toEqual(start.lora.get(module)!.a);
    expect(
      relativeError(
        deltas(state),
        meanOf(
          sites.map((site) => site.state),
          deltas,
        ),
      ),
    ).toBeLessThan(1e-5);
  });
});

describe('fedsa-lora', () => {
  it('trains both and sends A alone: B is zero in the global state', async () => {
    const config = settings('fedsa-lora');
    const start = createRunState(config, base);
    expect(getStrategy('fedsa-lora').configureTrain(config, 3)).toMatchObject({ trains: 'both', sends: 'a' });
    const sites = threeSites(config, start);
    const { state, drift } = await aggregateOnce(config, base, 0, start, sites);
    const states = sites.map((site) => site.state);
    const mean = meanOf(states, (each) => factorsOf(each, 'a'));
    expect(relativeError(factorsOf(state, 'a'), mean)).toBeLessThan(1e-6);
    for (const layer of state.lora.values()) expect(isZero(layer.b)).toBe(true);

    // Products are nowhere but at the sites: drift is that of A and of the head.
    const values = (each: ModelState) => new Map([...factorsOf(each, 'a'), ...each.head]);
    const middle = meanOf(states, values);
    const spread = states.map((each) =>
      squaredNorm(
        weightedSum([
          [1, values(each)],
          [-1, middle],
        ]),
      ),
    );
    expect(drift.spread).toBeCloseTo(
      Math.sqrt(spread.reduce((sum, each, k) => sum + shares[k]! * each, 0)),
      4,
    );
  });
});

describe('flexlora', () => {
  it('sums products of sites with ranks of their own and cuts to the fixed rank', async () => {
    const config = settings('flexlora', { siteRanks: { 'site 1': 2, 'site 2': 4 } });
    const start = createRunState(config, base);
    const sites = threeSites(config, start);
    expect(sites.map(({ state }) => state.lora.get('body.q')!.r)).toEqual([2, 4, 6]);
    const { state, energyKept } = await aggregateOnce(config, base, 0, start, sites);
    // Twelve directions, of which six stay.
    const error = relativeError(
      deltas(state),
      meanOf(
        sites.map((site) => site.state),
        deltas,
      ),
    );
    expect(energyKept).toBeLessThan(0.999);
    expect(1 - error ** 2).toBeCloseTo(energyKept, 5);
    for (const layer of state.lora.values()) expect(layer.r).toBe(6);
  });

  it('puts the largest directions first, so that a site of low rank gets those', async () => {
    const config = settings('flexlora', { siteRanks: { 'site 1': 2 } });
    const start = createRunState(config, base);
    const { state } = await aggregateOnce(config, base, 0, start, threeSites(config, start));
    const cut = siteStart(config, 'site 1', state);
    for (const [module, layer] of state.lora) {
      const best = await aggregateOnce(config, base, 6, state, [{ siteId: 'x', examples: 1, state }], {
        next: { ...getStrategy('flexlora').configureTrain(config, 1), rank: 2 },
      });
      const expected = new Map([[module, deltaWeight(best.state.lora.get(module)!)]]);
      expect(layer.r).toBe(6);
      expect(relativeError(new Map([[module, deltaWeight(cut.lora.get(module)!)]]), expected)).toBeLessThan(
        1e-4,
      );
    }
  });
});

describe('hetlora', () => {
  it('averages zero-padded factors by the norms of the products', async () => {
    const config = settings('hetlora', { siteRanks: { 'site 1': 2, 'site 3': 5 } });
    const start = createRunState(config, base);
    const sites = threeSites(config, start);
    const { state } = await aggregateOnce(config, base, 0, start, sites);
    const layers = sites.map((site) => site.state.lora.get('body.q')!);
    const norms = layers.map((layer) => Math.hypot(...deltaWeight(layer).data));
    const sum = norms.reduce((x, y) => x + y, 0);
    const [a, b] = [new Float64Array(6 * 12), new Float64Array(20 * 6)];
    for (const [k, layer] of layers.entries()) {
      for (let i = 0; i < layer.r; i++) {
        for (let j = 0; j < 12; j++) a[i * 12 + j]! += (norms[k]! / sum) * layer.a.data[i * 12 + j]!;
        for (let j = 0; j < 20; j++) b[j * 6 + i]! += (norms[k]! / sum) * layer.b.data[j * layer.r + i]!;
      }
    }
    const found = state.lora.get('body.q')!;
    found.a.data.forEach((value, i) => {
      expect(value).toBeCloseTo(a[i]!, 5);
    });
    found.b.data.forEach((value, i) => {
      expect(value).toBeCloseTo(b[i]!, 5);
    });
  });

  it('counts sites by their share where nobody changed anything', async () => {
    const config = settings('hetlora');
    const start = createRunState(config, base);
    const sites = threeSites(config, start).map((site) => ({
      ...site,
      state: { ...site.state, lora: start.lora },
    }));
    const { state } = await aggregateOnce(config, base, 0, start, sites);
    expect(relativeError(factorsOf(state, 'a'), factorsOf(start, 'a'))).toBeLessThan(1e-6);
  });
});

describe('flora-stack', () => {
  it('puts the exact sum under later states and starts from fresh factors', async () => {
    await fc.assert(
      fc.asyncProperty(randomRounds({ mixed: true }), async (round) => {
        const config = settings('flora-stack');
        const { state, frozenBaseDelta } = await aggregateOnce(config, base, 0, round.global, round.sites);
        expect(relativeError(deltas(frozenBaseDelta!), denseMean(round))).toBeLessThan(1e-5);
        for (const [module, layer] of frozenBaseDelta!.lora) {
          const sum = round.sites.reduce((r, site) => r + site.state.lora.get(module)!.r, 0);
          const [, ...inDims] = layer.a.dims;
          expect(layer.r).toBe(
            Math.min(
              sum,
              layer.b.dims[0]!,
              inDims.reduce((x, y) => x * y, 1),
            ),
          );
        }
        for (const layer of state.lora.values())
          expect([isZero(layer.a), isZero(layer.b)]).toEqual([false, true]);
      }),
      { numRuns: 40 },
    );
  });

  it('draws other factors for each round, the same ones for the same seed', async () => {
    const config = settings('flora-stack');
    const start = createRunState(config, base);
    const [first, again] = [
      await aggregateOnce(config, base, 0, start, threeSites(config, start)),
      await aggregateOnce(config, base, 0, start, threeSites(config, start)),
    ];
    const second = await aggregateOnce(config, base, 1, first.state, threeSites(config, first.state, 1));
    const a = (state: ModelState) => state.lora.get('body.q')!.a.data;
    expect(a(again.state)).toEqual(a(first.state));
    expect(a(second.state)).not.toEqual(a(first.state));
    expect(a(first.state)).not.toEqual(a(start));
    expect(first.frozenBaseDelta!.head.size).toBe(0);
  });
});

describe('sa-fedlora', () => {
  it('makes averaged base weights part of the base model once, when the initiating stage ends', async () => {
    const config = settings('sa-fedlora', { initiatingMode: 'full', initiatingRounds: 2 });
    let state = createRunState(config, base);
    for (let round = 0; round < 4; round++) {
      const sites = threeSites(config, state, round);
      const result = await aggregateOnce(config, base, round, state, sites);
      if (round !== 1) expect(result.frozenBaseDelta).toBeNull();
      else {
        const mean = meanOf(
          sites.map((site) => site.state),
          (each) => each.base,
        );
        expect(relativeError(result.frozenBaseDelta!.base, mean)).toBeLessThan(1e-6);
        expect([result.frozenBaseDelta!.lora.size, result.frozenBaseDelta!.head.size]).toEqual([0, 0]);
        for (const { a, b, r } of result.state.lora.values()) {
          expect([r, isZero(a), isZero(b)]).toEqual([6, false, true]);
        }
      }
      expect(result.state.base.size).toBe(round === 0 ? base.weights.size : 0);
      state = result.state;
    }
  });

  it('keeps base weights in the state of a run that ends with its initiating stage', async () => {
    const config = settings('sa-fedlora', { initiatingMode: 'full', initiatingRounds: 1, rounds: 1 });
    const start = createRunState(config, base);
    const result = await aggregateOnce(config, base, 0, start, threeSites(config, start));
    expect(result.frozenBaseDelta).toBeNull();
    expect(result.state.base.size).toBe(base.weights.size);
  });

  it('keeps base weights that an older release left under the factors', async () => {
    const config = settings('sa-fedlora');
    const start = { ...createRunState(config, base), base: base.weights };
    const sites = threeSites(config, start).map((site) => ({
      ...site,
      state: { ...site.state, base: new Map() },
    }));
    const { state } = await aggregateOnce(config, base, 3, start, sites);
    expect(state.base).toEqual(base.weights);
  });

  it('forgets the moments of base weights that do not train again', async () => {
    const serverOptimiser = { kind: 'momentum', learningRate: 1, beta: 0.9 } as const;
    const config = settings('sa-fedlora', { initiatingMode: 'full', initiatingRounds: 1, serverOptimiser });
    const start = createRunState(config, base);
    const { memory } = await aggregateOnce(config, base, 0, start, threeSites(config, start));
    expect([...memory!.keys()].sort()).toEqual(['velocity.head.bias', 'velocity.head.weight']);
  });

  it('starts a direction of no size from a fresh row of A that changes nothing', async () => {
    const config = settings('sa-fedlora');
    const start = createRunState(config, base);
    const [first] = threeSites(config, start);
    // Only two directions of B have a size; the round asks for six.
    const thin = withLayers(first!.state, (layer) => ({
      ...layer,
      b: { ...layer.b, data: layer.b.data.map((value, i) => (i % layer.r < 2 ? value : 0)) },
    }));
    const { state } = await aggregateOnce(config, base, 0, start, [{ ...first!, state: thin }]);
    expect(relativeError(deltas(state), deltas(thin))).toBeLessThan(1e-5);
    const { a, b, r } = state.lora.get('body.q')!;
    for (let k = 0; k < r; k++) {
      const row = a.data.subarray(k * 12, (k + 1) * 12);
      const column = b.data.filter((_, i) => i % r === k);
      expect(row.some((value) => value !== 0)).toBe(true);
      expect(column.some((value) => value !== 0)).toBe(k < 2);
    }
  });
});

function withLayers(state: ModelState, change: (layer: LoraLayer) => LoraLayer): ModelState {
  return { ...state, lora: new Map([...state.lora].map(([module, layer]) => [module, change(layer)])) };
}
