/** What every strategy must keep, whatever its algorithm; run over all of them. */
import { describe, expect, it } from 'vitest';
import { trainableWeights } from '../../core/engine/training-graph.ts';
import { deltaWeight } from '../../core/lora/factors.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { decodeModelState, encodeModelState, statesEqual } from '../../core/lora/state-file.ts';
import { createRandom } from '../../core/shared/random.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { checkUpdate } from '../../core/strategy/check-update.ts';
import { defaultRunConfig } from '../../core/strategy/defaults.ts';
import { getStrategy, strategies } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import {
  type RunConfig,
  type SiteUpdate,
  type StrategyName,
  strategyNameSchema,
} from '../../core/strategy/strategy.ts';
import { randomLayer, shapeOnlyBase, trainedState } from '../fixtures/random-state.ts';

const base = shapeOnlyBase();
const variants: [string, Partial<RunConfig> & { strategy: StrategyName }][] = [
  ['sa-fedlora', { strategy: 'sa-fedlora' }],
  ['sa-fedlora initiating with full', { strategy: 'sa-fedlora', initiatingMode: 'full' }],
  ['sa-fedlora initiating with last-k', { strategy: 'sa-fedlora', initiatingMode: 'last-k', lastK: 1 }],
  ['fedavg-lora', { strategy: 'fedavg-lora' }],
  ['fedavg-full', { strategy: 'fedavg-full' }],
  ['head-only', { strategy: 'head-only' }],
];

function settings(changes: Partial<RunConfig>): RunConfig {
  return defaultRunConfig({
    baseId: base.id,
    baseSha256: base.sha256,
    classes: ['a', 'b', 'c'],
    rMax: 6,
    rMin: 2,
    rounds: 7,
    ...changes,
  });
}

/** What a site would send back in this round. */
function train(config: RunConfig, global: ModelState, round: number, seed: number): ModelState {
  const { mode } = getStrategy(config.strategy).configureTrain(config, round);
  return trainedState(global, seed, { base, baseNames: trainableWeights(base, mode, config.lastK) });
}

function deltas(state: ModelState): Map<string, FloatTensor> {
  return new Map([...state.lora].map(([module, layer]) => [module, deltaWeight(layer)]));
}

function expectClose(
  found: ReadonlyMap<string, FloatTensor>,
  expected: ReadonlyMap<string, FloatTensor>,
): void {
  expect([...found.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [name, { dims, data }] of expected) {
    const { dims: foundDims, data: foundData } = found.get(name)!;
    expect(foundDims).toEqual(dims);
    const scale = Math.max(...data.map(Math.abs), 1e-6);
    data.forEach((value, i) => {
      expect(Math.abs(foundData[i]! - value)).toBeLessThan(1e-5 * scale);
    });
  }
}

it('every strategy of the configuration exists under its own name and is tested here', () => {
  expect(Object.keys(strategies).sort()).toEqual([...strategyNameSchema.options].sort());
  for (const name of strategyNameSchema.options) expect(getStrategy(name).name).toBe(name);
  expect(new Set(variants.map(([, { strategy }]) => strategy)).size).toBe(strategyNameSchema.options.length);
});

describe.each(variants)('%s', (_name, changes) => {
  const config = settings(changes);
  const strategy = getStrategy(config.strategy);
  const start = createRunState(config, base);
  const plan = (round: number) => strategy.configureTrain(config, round);
  const aggregate = (global: ModelState, updates: SiteUpdate[], round: number) =>
    strategy.aggregateTrain(config, global, updates, plan(Math.min(round + 1, config.rounds - 1)));

  it('plans every round, with ranks that never grow once there are factors', () => {
    let last = Number.POSITIVE_INFINITY;
    for (let round = 0; round < config.rounds; round++) {
      const { round: planned, mode, rank } = plan(round);
      expect(planned).toBe(round);
      expect(rank > 0).toBe(mode === 'lora');
      if (rank > 0) expect(rank).toBeLessThanOrEqual(last);
      if (rank > 0) last = rank;
    }
  });

  it('runs from first to last round, each state fitting the next plan and its file', async () => {
    let global = start;
    for (let round = 0; round < config.rounds; round++) {
      const updates = [1, 2, 3].map((site) => {
        const state = train(config, global, round, 10 * round + site);
        expect(() => checkUpdate(state, { base, global, plan: plan(round) })).not.toThrow();
        return { siteId: `site-${site}`, examples: 10 * site, state };
      });
      const result = await aggregate(global, updates, round);
      const next = plan(Math.min(round + 1, config.rounds - 1));
      for (const layer of result.state.lora.values()) expect(layer.r).toBe(next.rank);
      expect(result.energyKept).toBeGreaterThan(0);
      expect(result.energyKept).toBeLessThanOrEqual(1);
      expect(result.state.baseSha256).toBe(base.sha256);
      expect(result.state.classes).toEqual(config.classes);
      expect(statesEqual(decodeModelState(encodeModelState(result.state), 'global'), result.state)).toBe(
        true,
      );
      global = result.state;
    }
  });

  it('gives back the state of a single site', async () => {
    const state = train(config, start, 0, 4);
    const result = await aggregate(start, [{ siteId: 'only', examples: 17, state }], 0);
    // In the first round the rank stays, or factors begin at ΔW = 0.
    expectClose(deltas(result.state), deltas(state));
    expectClose(result.state.head, state.head);
    expectClose(result.state.base, state.base);
    expect(result.energyKept).toBeCloseTo(1, 6);
  });

  it('weighs the head and the base weights by numbers of examples', async () => {
    const [x, y] = [train(config, start, 0, 1), train(config, start, 0, 2)];
    const updates = [
      { siteId: 'x', examples: 30, state: x },
      { siteId: 'y', examples: 10, state: y },
    ];
    const { state } = await aggregate(start, updates, 0);
    const mean = (p: ReadonlyMap<string, FloatTensor>, q: ReadonlyMap<string, FloatTensor>) =>
      new Map(
        [...p].map(([name, { dims, data }]) => [
          name,
          floatTensor(
            dims,
            data.map((value, i) => 0.75 * value + 0.25 * q.get(name)!.data[i]!),
          ),
        ]),
      );
    expectClose(state.head, mean(x.head, y.head));
    expectClose(state.base, mean(x.base, y.base));
  });

  it('gives the same for sites in another order and from an asynchronous source', async () => {
    const updates = [1, 2, 3].map((site) => ({
      siteId: String(site),
      examples: site,
      state: train(config, start, 0, site),
    }));
    async function* later() {
      for (const update of [...updates].reverse()) yield update;
    }
    const [forwards, backwards] = [
      await aggregate(start, updates, 0),
      await strategy.aggregateTrain(config, start, later(), plan(1)),
    ];
    expectClose(deltas(backwards.state), deltas(forwards.state));
    expectClose(backwards.state.head, forwards.state.head);
    expectClose(backwards.state.base, forwards.state.base);
  });

  it('leaves its inputs alone and gives the same bytes twice', async () => {
    // Round 1 is the last initiating one: after it fresh factors are drawn where there were none.
    const state = train(config, start, 1, 3);
    const before = [encodeModelState(start), encodeModelState(state)];
    const results = [
      await aggregate(start, [{ siteId: 'a', examples: 5, state }], 1),
      await aggregate(start, [{ siteId: 'a', examples: 5, state }], 1),
    ];
    expect([encodeModelState(start), encodeModelState(state)]).toEqual(before);
    expect(statesEqual(results[0]!.state, results[1]!.state)).toBe(true);
  });

  it('refuses updates that would spoil the others', async () => {
    const good = train(config, start, 0, 1);
    const bias = floatTensor([3], Float32Array.of(0, Number.NaN, 0));
    const extra = randomLayer('unknown.layer', [4, 4], 1, 1, createRandom(1));
    const bad: Record<string, Partial<SiteUpdate> & { state?: ModelState }> = {
      nan: { state: { ...good, head: new Map(good.head).set('bias', bias) } },
      shape: { state: { ...good, head: new Map(good.head).set('bias', floatTensor([4])) } },
      base: { state: { ...good, baseSha256: 'cd'.repeat(32) } },
      classes: { state: { ...good, classes: ['b', 'a', 'c'] } },
      layer: { state: { ...good, lora: new Map(good.lora).set(extra.module, extra) } },
      examples: { examples: 0 },
    };
    for (const [what, fault] of Object.entries(bad)) {
      const updates = [
        { siteId: 'good', examples: 5, state: good },
        { siteId: 'bad', examples: 5, state: good, ...fault },
      ];
      await expect(aggregate(start, updates, 0), what).rejects.toMatchObject({ code: 'UPDATE_REJECTED' });
    }
  });

  it('refuses to make a state of no updates', async () => {
    await expect(aggregate(start, [], 0)).rejects.toMatchObject({ code: 'QUORUM_NOT_REACHED' });
  });

  it('counts right answers over all sites, and none when none may be told', () => {
    const results = [
      { siteId: 'a', correct: 9, total: 10 },
      { siteId: 'b', correct: 3, total: 30 },
      { siteId: 'c', correct: 0, total: 0 },
    ];
    expect(strategy.aggregateEvaluate(results)).toEqual({ accuracy: 0.3, total: 40 });
    expect(strategy.aggregateEvaluate([{ siteId: 'c', correct: 0, total: 0 }])).toEqual({
      accuracy: null,
      total: 0,
    });
    expect(strategy.aggregateEvaluate([])).toEqual({ accuracy: null, total: 0 });
  });
});

describe('aggregation of factors', () => {
  const merge = async (strategy: StrategyName) => {
    const config = settings({ strategy, rMax: 6, rMin: 6, rounds: 7 });
    const start = createRunState(config, base);
    const updates = [1, 2, 3].map((site) => ({
      siteId: String(site),
      examples: site,
      state: trainedState(start, site),
    }));
    const { state } = await getStrategy(strategy).aggregateTrain(
      { ...config, loraScale: 2 },
      start,
      updates,
      { ...getStrategy(strategy).configureTrain(config, 1), rank: 20 },
    );
    const exact = updates[0]!.state.lora.get('body.q')!;
    const expected = new Float32Array(deltaWeight(exact).data.length);
    for (const { examples, state: site } of updates) {
      deltaWeight(site.lora.get('body.q')!).data.forEach((value, i) => {
        expected[i]! += (examples / 6) * value;
      });
    }
    const found = deltaWeight(state.lora.get('body.q')!).data;
    const error = Math.hypot(...found.map((value, i) => value - expected[i]!));
    return error / Math.hypot(...expected);
  };

  it('is exact in sa-fedlora', async () => {
    expect(await merge('sa-fedlora')).toBeLessThan(1e-5);
  });

  it('is not exact when factors are averaged apart', async () => {
    expect(await merge('fedavg-lora')).toBeGreaterThan(0.01);
  });

  it('takes sites of lower ranks in sa-fedlora', async () => {
    const config = settings({ strategy: 'sa-fedlora' });
    const start = createRunState(config, base);
    const weak = createRunState({ ...config, rMax: 3 }, base);
    const updates = [
      { siteId: 'strong', examples: 1, state: trainedState(start, 1) },
      { siteId: 'weak', examples: 1, state: trainedState(weak, 2) },
    ];
    const { state } = await getStrategy('sa-fedlora').aggregateTrain(config, start, updates, {
      ...getStrategy('sa-fedlora').configureTrain(config, 1),
      rank: 12,
    });
    const [x, y] = updates.map((update) => deltaWeight(update.state.lora.get('body.q')!).data);
    const expected = floatTensor(
      [20, 12],
      x!.map((value, i) => (value + y![i]!) / 2),
    );
    expectClose(new Map([['q', deltaWeight(state.lora.get('body.q')!)]]), new Map([['q', expected]]));
  });

  it('keeps the averaged base weights under the factors of later rounds', async () => {
    const config = settings({ strategy: 'sa-fedlora', initiatingMode: 'full', initiatingRounds: 1 });
    const strategy = getStrategy('sa-fedlora');
    const start = createRunState(config, base);
    const baseNames = [...base.weights.keys()];
    const first = { siteId: 'a', examples: 1, state: trainedState(start, 1, { base, baseNames }) };
    const began = await strategy.aggregateTrain(config, start, [first], strategy.configureTrain(config, 1));
    const [layer] = began.state.lora.values();
    expect(layer!.r).toBe(6);
    expect(layer!.b.data.every((value) => value === 0)).toBe(true);
    expect(layer!.a.data.some((value) => value !== 0)).toBe(true);
    const second = { siteId: 'a', examples: 1, state: trainedState(began.state, 2) };
    const next = await strategy.aggregateTrain(
      config,
      began.state,
      [second],
      strategy.configureTrain(config, 2),
    );
    expectClose(next.state.base, first.state.base);
  });
});
