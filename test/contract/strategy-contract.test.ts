/** What every strategy must keep, whatever its algorithm and its options; run over all of them. */
import { describe, expect, it } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { strategyNameSchema } from '../../core/config/setting.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { decodeModelState, encodeModelState } from '../../core/lora/state-file.ts';
import { trainableWeights } from '../../core/models/trainable-weights.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { checkUpdate } from '../../core/strategy/check-update.ts';
import { refuseCombinations } from '../../core/strategy/combinations.ts';
import { getStrategy, strategies } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { siteStart } from '../../core/strategy/site-rank.ts';
import type { AggregateResult, ServerMemory, SiteUpdate } from '../../core/strategy/strategy.ts';
import { localParts } from '../../core/strategy/what-travels.ts';
import { randomLayer, shapeOnlyBase } from '../fixtures/random-state.ts';
import { statesEqual } from '../fixtures/states-equal.ts';
import {
  aggregateOnce,
  deltas,
  relativeError,
  runSettings,
  trainAs,
  weightedSum,
} from '../fixtures/strategy-rounds.ts';
import { plain, type Variant, withOptions } from '../fixtures/strategy-variants.ts';

const base = shapeOnlyBase();
const settings = (changes: Variant) => runSettings(base, changes);

/** Every value that a result has, to compare results that should be the same but for rounding. */
function effectOf({ state, frozenBaseDelta }: Pick<AggregateResult, 'state' | 'frozenBaseDelta'>) {
  const effect = weightedSum([
    [1, deltas(state)],
    [1, deltas(frozenBaseDelta ?? { lora: new Map() })],
  ]);
  for (const [name, tensor] of state.head) effect.set(`head.${name}`, tensor);
  for (const [name, tensor] of [...(frozenBaseDelta?.base ?? []), ...state.base])
    effect.set(`base.${name}`, tensor);
  return effect;
}

/** What became part of the frozen base is what the strategy had said. */
function expectFrozen(
  part: ModelState | null,
  { config, global, round }: { config: RunConfig; global: ModelState; round: number },
): void {
  const strategy = getStrategy(config.strategy);
  const plan = strategy.configureTrain(config, round);
  const next = strategy.configureTrain(config, Math.min(round + 1, config.rounds - 1));
  const said = strategy.frozenAfter(config, plan, next);
  const ranks = [...(part?.lora.values() ?? [])].reduce((sum, { r }) => sum + r, 0);
  const layers = global.lora.size;
  if (said === 'nothing') expect(part).toBeNull();
  else if (said === 'base weights') {
    const trained = trainableWeights(base, plan.mode, config.lastK);
    expect([[...part!.base.keys()].sort(), part!.lora.size]).toEqual([trained.sort(), 0]);
  } else if (said === 'stacked factors') {
    expect([...part!.lora.keys()]).toEqual([...global.lora.keys()]);
    expect(ranks).toBeGreaterThanOrEqual(layers * plan.rank);
  } else if (config.allocation === 'uniform') {
    expect(ranks).toBe(layers * (plan.rank - next.rank));
    expect(ranks).toBeGreaterThan(0);
  } else expect(part?.base.size ?? 0).toBe(0);
}

it('every strategy of the configuration exists under its own name and is tested here', () => {
  expect(Object.keys(strategies).sort()).toEqual([...strategyNameSchema.options].sort());
  for (const name of strategyNameSchema.options) expect(getStrategy(name).name).toBe(name);
  expect(new Set(plain.map(([, { strategy }]) => strategy)).size).toBe(strategyNameSchema.options.length);
});

describe.each([...plain, ...withOptions])('%s', (_name, changes) => {
  const config = settings(changes);
  const strategy = getStrategy(config.strategy);
  const start = createRunState(config, base);
  const plan = (round: number) => strategy.configureTrain(config, round);
  const fiveSites = (global: ModelState, round: number): SiteUpdate[] =>
    [1, 2, 3, 4, 5].map((site) => ({
      siteId: `site-${site}`,
      examples: 10 * site,
      state: trainAs(config, base, global, round, 10 * round + site),
    }));

  it('is a combination that a run may have', () => {
    expect(() => refuseCombinations(config)).not.toThrow();
  });

  it('plans every round, with ranks that never grow once there are factors', () => {
    let last = Number.POSITIVE_INFINITY;
    for (let round = 0; round < config.rounds; round++) {
      const { round: planned, mode, rank } = plan(round);
      expect(planned).toBe(round);
      // Class means do not train the layers that the state has already.
      if (mode !== 'prototypes') expect(rank > 0).toBe(mode === 'lora');
      if (rank > 0) expect(rank).toBeLessThanOrEqual(last);
      if (rank > 0) last = rank;
    }
  });

  it('runs from first to last round, each state fitting the next plan and its file', async () => {
    let global = start;
    let memory: ServerMemory | null = null;
    let budget = Number.POSITIVE_INFINITY;
    for (let round = 0; round < config.rounds; round++) {
      const updates = fiveSites(global, round);
      const trained = trainableWeights(base, plan(round).mode, config.lastK);
      const expected = { base, global, plan: plan(round), trained };
      for (const { state } of updates) {
        expect(() => checkUpdate(state, expected)).not.toThrow();
      }
      const result: AggregateResult = await aggregateOnce(config, base, round, global, updates, { memory });
      const next = plan(Math.min(round + 1, config.rounds - 1));
      const ranks = [...result.state.lora.values()].map((layer) => layer.r);
      if (config.allocation === 'uniform') expect(new Set(ranks).size).toBeLessThanOrEqual(1);
      const sum = ranks.reduce((total, r) => total + r, 0);
      expect(sum).toBe(next.rank * ranks.length);
      if (sum > 0) expect(sum).toBeLessThanOrEqual(budget);
      if (sum > 0) budget = sum;
      expect(result.energyKept).toBeGreaterThan(0);
      expect(result.energyKept).toBeLessThanOrEqual(1);
      expect(result.drift.spread).toBeGreaterThan(0);
      expect(result.drift.share).toBeGreaterThan(0);
      expect(result.drift.share).toBeLessThanOrEqual(1);
      for (const state of [
        result.state,
        ...(result.frozenBaseDelta === null ? [] : [result.frozenBaseDelta]),
      ]) {
        expect(state.baseSha256).toBe(base.sha256);
        expect(state.classes).toEqual(config.classes);
        expect(statesEqual(decodeModelState(encodeModelState(state), 'global'), state)).toBe(true);
      }
      expectFrozen(result.frozenBaseDelta, { config, global, round });
      const trainsBase = next.mode === 'full' || next.mode === 'last-k';
      expect(result.state.base.size > 0).toBe(trainsBase && plan(round).mode !== 'prototypes');
      global = result.state;
      memory = result.memory;
    }
  });

  it('gives the same for sites in another order', async () => {
    const updates = fiveSites(start, 0);
    const forwards = await aggregateOnce(config, base, 0, start, updates);
    const backwards = await aggregateOnce(config, base, 0, start, [...updates].reverse());
    expect(relativeError(effectOf(backwards), effectOf(forwards))).toBeLessThan(1e-6);
    expect(backwards.drift.share).toBeCloseTo(forwards.drift.share, 9);
    expect(new Set(backwards.exclusions.map((each) => each.siteId))).toEqual(
      new Set(forwards.exclusions.map((each) => each.siteId)),
    );
  });

  it('leaves its inputs alone and gives the same bytes twice', async () => {
    // Round 1 is the last initiating one: after it fresh factors are drawn where there were none.
    const updates = fiveSites(start, 1);
    const before = [start, ...updates.map(({ state }) => state)].map(encodeModelState);
    const results = [
      await aggregateOnce(config, base, 1, start, updates),
      await aggregateOnce(config, base, 1, start, updates),
    ];
    expect([start, ...updates.map(({ state }) => state)].map(encodeModelState)).toEqual(before);
    expect(statesEqual(results[0]!.state, results[1]!.state)).toBe(true);
  });

  it('refuses updates that would spoil the others', async () => {
    const good = fiveSites(start, 0);
    const first = good[0]!.state;
    const bias = floatTensor([3], Float32Array.of(0, Number.NaN, 0));
    const extra = randomLayer('unknown.layer', [4, 4], 1, 1, createRandom(1));
    const bad: Record<string, Partial<SiteUpdate>> = {
      nan: { state: { ...first, head: new Map(first.head).set('bias', bias) } },
      shape: { state: { ...first, head: new Map(first.head).set('bias', floatTensor([4])) } },
      base: { state: { ...first, baseSha256: 'cd'.repeat(32) } },
      classes: { state: { ...first, classes: ['b', 'a', 'c'] } },
      layer: { state: { ...first, lora: new Map(first.lora).set(extra.module, extra) } },
      examples: { examples: 0 },
    };
    for (const [what, fault] of Object.entries(bad)) {
      const updates = [...good.slice(1), { siteId: 'bad', examples: 5, state: first, ...fault }];
      await expect(aggregateOnce(config, base, 0, start, updates), what).rejects.toMatchObject({
        code: 'UPDATE_REJECTED',
      });
    }
  });

  it('refuses to make a state of no updates', async () => {
    await expect(aggregateOnce(config, base, 0, start, [])).rejects.toMatchObject({
      code: 'QUORUM_NOT_REACHED',
    });
  });
});

describe.each(plain)('%s without options', (_name, changes) => {
  const config = settings(changes);
  const start = createRunState(config, base);

  it('gives back the state of a single site, and no drift', async () => {
    const state = trainAs(config, base, start, 0, 4);
    const result = await aggregateOnce(config, base, 0, start, [{ siteId: 'only', examples: 17, state }]);
    // In the first round the rank stays, or factors begin at ΔW = 0.
    expect(relativeError(effectOf(result), effectOf({ state, frozenBaseDelta: null }))).toBeLessThan(1e-5);
    expect(result.energyKept).toBeCloseTo(1, 6);
    expect(result.drift.share).toBeLessThan(1e-9);
    expect(result.exclusions).toEqual([]);
    expect(result.memory).toBeNull();
  });

  it('weighs the head and the base weights by numbers of examples, or alike', async () => {
    const [x, y] = [trainAs(config, base, start, 0, 1), trainAs(config, base, start, 0, 2)];
    const sites = [
      { siteId: 'x', examples: 30, state: x },
      { siteId: 'y', examples: 10, state: y },
    ];
    const byExamples = await aggregateOnce(config, base, 0, start, sites);
    const alike = await aggregateOnce({ ...config, weighting: 'equal' }, base, 0, start, sites);
    for (const part of ['head', 'base'] as const) {
      const mean = (share: number) =>
        weightedSum([
          [share, x[part]],
          [1 - share, y[part]],
        ]);
      expect(relativeError(byExamples.state[part], mean(0.75))).toBeLessThan(1e-6);
      expect(relativeError(alike.state[part], mean(0.5))).toBeLessThan(1e-6);
    }
  });
});

/** The mean of two states, tensor by tensor. */
function meanOf(x: ModelState, y: ModelState, share: number): ModelState {
  const mean = (one: ModelState['head'], other: ModelState['head']) =>
    weightedSum([
      [share, one],
      [1 - share, other],
    ]);
  const factors = ({ lora }: ModelState) =>
    new Map(
      [...lora].flatMap(([module, { a, b }]) => [[`${module} a`, a] as const, [`${module} b`, b] as const]),
    );
  const both = mean(factors(x), factors(y));
  const lora = [...x.lora].map(([module, layer]) => {
    const [a, b] = [both.get(`${module} a`)!, both.get(`${module} b`)!];
    return [module, { ...layer, a, b }] as const;
  });
  return { ...x, lora: new Map(lora), head: mean(x.head, y.head), base: mean(x.base, y.base) };
}

/** The same ΔW from other factors. */
function withOtherFactors(state: ModelState): ModelState {
  const times = (factor: number, { dims, data }: { dims: readonly number[]; data: Float32Array }) =>
    floatTensor(
      dims,
      data.map((value) => factor * value),
    );
  const lora = [...state.lora].map(([module, layer]) => {
    return [module, { ...layer, a: times(4, layer.a), b: times(0.25, layer.b) }] as const;
  });
  return { ...state, lora: new Map(lora) };
}

describe.each(plain)('%s is what its traits say', (_name, changes) => {
  const config = settings(changes);
  const strategy = getStrategy(config.strategy);
  const traits = strategy.traits(config);
  const plans = Array.from({ length: config.rounds }, (_, round) => strategy.configureTrain(config, round));
  const start = createRunState(config, base);
  const sites = (x: ModelState, y: ModelState): SiteUpdate[] => [
    { siteId: 'x', examples: 30, state: x },
    { siteId: 'y', examples: 10, state: y },
  ];

  /** In each round with factors, or without for strategies that have none. */
  async function eachRound(
    look: (round: number, global: ModelState, x: ModelState, y: ModelState) => Promise<void>,
  ) {
    let global = start;
    for (const { round, rank } of plans) {
      const [x, y] = [1, 2].map((site) => trainAs(config, base, global, round, 10 * round + site));
      if (rank > 0 || !strategy.adaptsLayers) await look(round, global, x!, y!);
      global = (await aggregateOnce(config, base, round, global, sites(x!, y!))).state;
    }
  }

  it(`is ${traits.linear ? '' : 'not '}linear in what travels`, async () => {
    await eachRound(async (round, global, x, y) => {
      const two = await aggregateOnce(config, base, round, global, sites(x, y));
      const mean = { siteId: 'both', examples: 40, state: meanOf(x, y, 0.75) };
      const one = await aggregateOnce(config, base, round, global, [mean]);
      const apart = relativeError(effectOf(one), effectOf(two));
      if (traits.linear) expect(apart).toBeLessThan(1e-5);
      else expect(apart).toBeGreaterThan(1e-3);
    });
  });

  it(`merges ${traits.merges}: other factors of the same product ${traits.merges === 'products' ? 'do not ' : ''}matter`, async () => {
    await eachRound(async (round, global, x, y) => {
      const plan = plans[round]!;
      // What travels alone has no product.
      if (plan.sends !== 'both' || plan.rank === 0) return;
      const one = await aggregateOnce(config, base, round, global, sites(x, y));
      const other = await aggregateOnce(config, base, round, global, sites(withOtherFactors(x), y));
      const apart = relativeError(effectOf(other), effectOf(one));
      if (traits.merges === 'products') expect(apart).toBeLessThan(1e-5);
      else expect(apart).toBeGreaterThan(1e-3);
    });
  });

  it(`takes ${traits.siteRanks ? '' : 'no '}ranks of single sites`, async () => {
    const own = { ...config, siteRanks: { x: 1 } };
    if (!traits.siteRanks) expect(() => refuseCombinations(own)).toThrow(/"siteRanks"/);
    else refuseCombinations(own);
    await eachRound(async (round, global, _x, y) => {
      if (plans[round]!.rank < 2) return;
      const x = trainAs(own, base, siteStart(own, 'x', global), round, round);
      const result = aggregateOnce(own, base, round, global, sites(x, y));
      if (!traits.siteRanks) await expect(result).rejects.toMatchObject({ code: 'UPDATE_REJECTED' });
      else expect((await result).state.lora.size).toBe(global.lora.size);
    });
  });

  it(`${traits.anneals ? 'follows the schedule' : 'has one stage'}; A ${traits.rotatesA ? 'rotates' : 'does not rotate'}`, () => {
    expect(plans.every(({ stage }) => (stage !== 'baseline') === traits.anneals)).toBe(true);
    const falls = plans.some(({ rank, sends }) => rank > 0 && rank < config.rMax && sends === 'b');
    expect(falls).toBe(traits.rotatesA);
  });

  it.each([false, true])('evaluates as configured, with heads at the sites: %s', (localHead) => {
    const own = { ...config, localHead };
    for (const plan of plans) {
      const { perSite, ...job } = strategy.configureEvaluate(own, plan.round);
      const { batchSize, head, arcScale } = config.training;
      expect(job).toEqual({ batchSize, head, arcScale, smallCell: config.smallCell });
      expect(perSite).toBe(Object.values(localParts(own, plan)).includes(true));
    }
    const reports = [
      { siteId: 'x', correct: 8, total: 10, counts: null },
      { siteId: 'y', correct: 10, total: 30, counts: null },
    ];
    expect(strategy.aggregateEvaluate(own, reports)).toMatchObject({ total: 40, accuracy: 18 / 40 });
    expect(strategy.aggregateEvaluate(own, reports.toReversed())).toEqual(
      strategy.aggregateEvaluate(own, reports),
    );
    expect(strategy.aggregateEvaluate(own, []).accuracy).toBeNull();
  });
});
